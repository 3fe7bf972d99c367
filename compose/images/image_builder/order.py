"""Building several images in the order of their dependence, two at once."""

from __future__ import annotations

import tempfile
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from image_builder.builds import Builder
from stackyard.images.recipes import Recipe, everything
from stackyard.images.sources import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

WORKERS: Final = 2  # images built at once
# What takes longest, or what those wait for; measured: all others are built beside these.
FIRST: Final = ("base-debian", "base-redis-alpine", "base-postgres-debian", "postgres")


def build(
    root: Path, flavour: str, recipes: Iterable[Recipe], known: Container[str], say: Callable[[str], None]
) -> None:
    """
    Build the images of *recipes* and their bases that are not in *known*; a failure stops what has not begun.

    Args:
        root: The project.
        flavour: debian or alpine.
        recipes: The images that shall exist.
        known: References of the images that exist.
        say: Gets a line for each step.

    Raises:
        ImageError: If an image cannot be built.
    """
    missing = {recipe.reference: recipe for recipe in everything(recipes, known)}
    order = TopologicalSorter(
        {name: {base.reference for _, base in recipe.bases} & missing.keys() for name, recipe in missing.items()}
    )
    order.prepare()
    with tempfile.TemporaryDirectory(prefix="images-") as work, ThreadPoolExecutor(WORKERS) as pool:
        Path(work).chmod(0o755)  # see debian.make_root; nothing in it is secret
        builder = Builder(root=root, cache=cache_directory() / "wheels", flavour=flavour, work=Path(work), say=say)
        running: dict[Future[None], str] = {}
        ready: list[str] = []
        try:
            while order.is_active():
                # chosen when a worker is free, because what became ready meanwhile may be more urgent
                ready = sorted([*ready, *order.get_ready()], key=lambda name: _rank(missing[name]))
                while ready and len(running) < WORKERS:
                    name = ready.pop(0)
                    running[pool.submit(builder.build, missing[name])] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    order.done(running.pop(future))
        except BaseException:
            builder.cancel()
            pool.shutdown(cancel_futures=True)
            raise


def _rank(recipe: Recipe) -> int:
    return FIRST.index(recipe.name) if recipe.name in FIRST else len(FIRST)

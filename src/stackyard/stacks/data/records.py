"""The records of a copy's saved data, in its lease's folder, and of what a reset did."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard._util import files, json_text
from stackyard._util.advice import end_and_start
from stackyard.errors import UsageError
from stackyard.project.readiness_hints import Hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.leases import Lease

Driver = Literal["postgresql", "redis", "volumes", "none"]
NOTE: Final = "data.json"  # in the lease's folder, next to the archives that it names
ARCHIVE: Final = "data-{}.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """
    One folder of a container that a volume holds.

    Attributes:
        path: Where, inside the container.
        volume: The volume's name.
        own: Whether the volume belongs to the copy alone, so that it may be emptied.
        anonymous: Whether the engine named it.
        writable: Whether the container may write to it.
    """

    path: str
    volume: str
    own: bool
    anonymous: bool = False
    writable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    What is kept of one container.

    Attributes:
        service: Its service.
        name: Its name on the engine.
        number: Its number among the containers of its service, as Compose writes it.
        driver: How its data is brought back.
        why: Why this driver, for a person.
        body: The request that makes it again; empty unless its driver is ``volumes``.
        folders: Its volumes.
        joins: Names of containers whose namespaces or volumes it shares.
        archives: File in the lease's folder by the path that it is unpacked at.
        runs: Whether it ran when its data was kept; a one-shot had ended.
    """

    service: str
    name: str
    driver: Driver
    why: str
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    folders: tuple[Folder, ...] = ()
    joins: tuple[str, ...] = ()
    archives: Mapping[str, str] = field(default_factory=dict)
    runs: bool = True
    number: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it apart in its copy, whatever somebody has named it since: its service and number."""
        return self.service, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    What is kept of a copy.

    Attributes:
        containers: Its containers, each after those that it joins.
        volumes: Its own named volumes: the request that makes each again, by name.
        hints: What the configuration says about the readiness of services.
        sums: SHA-256 of each archive, by file.
    """

    containers: tuple[Kept, ...]
    volumes: Mapping[str, Mapping[str, Any]]
    hints: Mapping[str, Hint]
    sums: Mapping[str, str] = field(default_factory=dict)

    def write(self, lease: Lease) -> None:
        """Write it into the folder of *lease*, after a line by which a damaged one is noticed."""
        text = json.dumps(asdict(self)).encode()
        files.write(lease.directory / NOTE, b"%s\n%s" % (_sum(text), text))

    @staticmethod
    def drop(lease: Lease) -> None:
        """Remove what an earlier start under *lease* kept: it is the state of another copy."""
        for path in (lease.directory / NOTE, *lease.directory.glob(ARCHIVE.format("*"))):
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, lease: Lease) -> Note:
        """
        Return what is kept of the copy of *lease*.

        Raises:
            UsageError: If nothing is kept, or it cannot be read.
        """
        path = lease.directory / NOTE
        try:
            return cls._of(json_text.read(_whole(files.read(path))))
        except FileNotFoundError:
            raise UsageError(
                f"copy {lease.title} keeps no state to go back to; write 'reset = true' into the project's "
                "configuration, or start it with --resettable"
            ) from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            text = f"copy {lease.title}: {path} cannot be read; {end_and_start(lease.id)}"
            raise UsageError(text) from None

    @classmethod
    def _of(cls, found: Any) -> Note:
        containers = [
            {**one, "folders": tuple(Folder(**folder) for folder in one["folders"]), "joins": tuple(one["joins"])}
            for one in found["containers"]
        ]
        return cls(
            containers=tuple(Kept(**one) for one in containers), volumes=found["volumes"],
            hints={name: Hint(**hint) for name, hint in found["hints"].items()}, sums=found["sums"],
        )  # fmt: skip


def _whole(content: bytes) -> bytes:
    first, _, text = content.partition(b"\n")
    if first != _sum(text):
        raise ValueError("damaged")
    return text


def _sum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReset:
    """
    What a reset did with one service.

    Attributes:
        service: Its name.
        driver: How its data was brought back; ``none`` if it was left as it is.
        seconds: How long that took; services of one driver are brought back together.
        what: What was done or why nothing, for a person.
    """

    service: str
    driver: Driver
    seconds: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """
    One reset.

    Attributes:
        seconds: From the call until each service was ready again.
        services: What was done with each service, in the order of the Compose file.
    """

    seconds: float
    services: tuple[ServiceReset, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        services = [{**asdict(one), "seconds": round(one.seconds, 3)} for one in self.services]
        return {"seconds": round(self.seconds, 3), "services": services}

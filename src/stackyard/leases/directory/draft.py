"""
A lease's directory before the lease has a place.

stackyard makes the secrets, the owner's lock and the part of the env file that does not depend on the place before it
locks the book. So other processes only wait for an appended kilobyte and a rename. The draft's name shows that it is
not a lease; the lock in it tells a clean-up that its maker is alive.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from stackyard._util import files as disk
from stackyard.errors import BookError
from stackyard.leases import owners
from stackyard.leases.directory import credentials, files
from stackyard.leases.records import ENV, LOCK, SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackyard.leases.owners import Owner
    from stackyard.leases.records import Lease
    from stackyard.project.environments.services import Services

TRIES: Final = 5  # a clean-up may remove a draft in the instant before its maker holds the lock


@dataclass(slots=True, kw_only=True)
class Draft:
    """
    One prepared directory; *settle* makes it a lease's, *drop* removes it.

    Attributes:
        folder: Where the leases' directories are.
        common: Lines of the env file that are not the lease's own.
        host: ``Settings.host``.
        services: The services of the environment, which has secrets; None for a copy.
        directory: The prepared directory; None before *prepare* and once it is settled or dropped.
        secrets: The secrets in it; none for a copy.

    Raises:
        UsageError: If a variable cannot be written so that Compose, a shell and stackyard read the same value.
    """

    folder: Path
    common: str
    host: str
    services: Services | None = None
    directory: Path | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        folder: Path,
        environment: Mapping[str, str],
        extra: Mapping[str, str],
        host: str,
        services: Services | None = None,
    ) -> Draft:
        """Return a draft that is not prepared yet; arguments as for `files.write`."""
        common = files.common_text(environment, extra, services)
        return cls(folder=folder, common=common, host=host, services=services)

    def prepare(self) -> Path:
        """
        Make the directory with its secrets, its lock and the beginning of its env file.

        Raises:
            BookError: If a secret cannot be written.
            OSError: If the directory or lock cannot be made.
        """
        self.drop()
        disk.make_folder(self.folder)
        made = self._place()
        self.directory = made
        if self.services:
            self.secrets = credentials.new(self.services.secrets)
            credentials.write(made / SECRETS, self.secrets)
        files.write_new(made / ENV, self.common)
        return made

    def _place(self) -> Path:
        """Make the directory and hold its lock."""
        for _ in range(TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                return self._try()
        return self._try()

    def _try(self) -> Path:
        made = self.folder / f"{files.DRAFT}{os.urandom(6).hex()}"
        made.mkdir(mode=0o700)
        owners.hold(made / LOCK)
        return made

    def settle(self, lease: Lease, named: Owner) -> None:
        """
        Make the draft the directory of *lease*, with its env file, in one step; prepare it first if it is missing.

        Afterwards this process holds the lock only if it owns the lease.

        Args:
            lease: What it becomes.
            named: The owner that the env file, and so the containers' labels, name.

        Raises:
            UsageError: If a variable cannot be written.
            BookError: If a secret cannot be written.
            OSError: If another file cannot be written.
        """
        made = self.directory
        if made is None or not made.is_dir():
            made = self.prepare()
        shown = lease if named is lease.owner else replace(lease, owner=named)
        files.append(made / ENV, files.own_text(shown, self.secrets, self.host, self.services))
        try:
            made.rename(lease.directory)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            raise BookError(f"{lease.directory}: something else has this name; move it away") from None
        self.directory = None
        if lease.owner.kind == "process":
            owners.moved(made / LOCK, lease.lock)
        else:
            owners.drop(made / LOCK)

    def drop(self) -> None:
        """Remove the directory if it was prepared and not settled."""
        if self.directory is not None:
            owners.drop(self.directory / LOCK)
            files.discard(self.directory)
            self.directory = None

"""What a program or shared library asks of its loader, read from its program headers; so stripped files work, too."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC: Final = b"\x7fELF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """
    One ELF file.

    Attributes:
        machine: The processor it is for, in the engine's words (amd64, arm64), else the format's own.
        interpreter: The loader it names; empty for a library or a static program.
        needed: Names of the libraries it loads.
        run_path: Folders (RPATH, RUNPATH) searched before the loader's own.
        damaged: What is wrong with it; empty when it could be read.
    """

    machine: str = ""
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    run_path: tuple[str, ...] = ()
    damaged: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Binary:
        """Read one file; never raises, a file that cannot be loaded is a finding like others."""
        from elftools.common.exceptions import ELFError
        from elftools.construct import ConstructError
        from elftools.elf.elffile import ELFFile

        try:
            return cls._read(ELFFile(io.BytesIO(data)))
        except (ELFError, ConstructError, ValueError, KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
            return cls(damaged=f"{type(error).__name__}: {error}")

    @classmethod
    def _read(cls, elf: ELFFile) -> Binary:
        from elftools.elf.dynamic import DynamicSegment
        from elftools.elf.segments import InterpSegment

        interpreter = ""
        needed: list[str] = []
        paths: list[str] = []
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = str(segment.get_interp_name())
            elif isinstance(segment, DynamicSegment):
                # the library gives each tag the one attribute its kind has
                needed += [str(vars(tag)["needed"]) for tag in segment.iter_tags("DT_NEEDED")]
                for kind in ("rpath", "runpath"):
                    tags = segment.iter_tags(f"DT_{kind.upper()}")
                    paths += [path for tag in tags for path in str(vars(tag)[kind]).split(":")]
        machine = elf["e_machine"]
        return cls(
            machine=MACHINES.get(machine, machine), interpreter=interpreter, needed=tuple(needed),
            run_path=tuple(path for path in paths if path),
        )  # fmt: skip


MACHINES: Final = {"EM_X86_64": "amd64", "EM_AARCH64": "arm64", "EM_386": "386", "EM_ARM": "arm"}

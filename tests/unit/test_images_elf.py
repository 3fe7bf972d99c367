from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from image_builder.elf import HEADER, SEGMENT, slim
from stackyard._util.process import run
from stackyard.errors import ImageError

LOAD, NOTE, STACK = 1, 4, 0x6474E551
SYMBOLS: Final = b"symbols" * 1000
Row = tuple[int, int, int, int]  # kind, offset, size, align


def library(rows: list[Row], content: dict[int, bytes], *, table: int = 64, kind: int = 3) -> bytes:
    """Lay out a library: its program headers, and what lies at which offset."""
    end = max(offset + len(part) for offset, part in content.items())
    data = bytearray(max(end, table + SEGMENT.size * len(rows)))
    for offset, part in content.items():
        data[offset : offset + len(part)] = part
    ident = b"\x7fELF\x02\x01\x01"
    HEADER.pack_into(data, 0, ident, kind, 62, 1, 0, table, end - 64, 0, 64, SEGMENT.size, len(rows), 64, 9, 8)
    for number, (what, offset, size, align) in enumerate(rows):
        SEGMENT.pack_into(data, table + SEGMENT.size * number, what, 4, offset, offset, offset, size, size, align)
    return bytes(data)


def segments(data: bytes) -> list[tuple[int, ...]]:
    header = HEADER.unpack_from(data)
    return [SEGMENT.unpack_from(data, header[5] + SEGMENT.size * row) for row in range(header[10])]


def slimmed(folder: Path, data: bytes) -> bytes:
    file = folder / "library.so"
    file.write_bytes(data)
    slim(file)
    return file.read_bytes()


def test_a_program_that_was_slimmed_still_runs(tmp_path: Path) -> None:
    program = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), program)
    with program.open("ab") as stream:
        stream.write(SYMBOLS)  # what a linker leaves behind the last segment

    slim(program)

    assert program.stat().st_size <= Path(sys.executable).resolve().stat().st_size
    home = {"PYTHONHOME": sys.base_prefix}
    assert run([str(program), "-c", "import json; print(6 * 7)"], deadline=120, env=home).stdout == "42\n"


def test_a_library_that_was_slimmed_still_loads(tmp_path: Path) -> None:
    found = next(row.split()[-1] for row in Path("/proc/self/maps").read_text().splitlines() if "libc.so" in row)
    library = tmp_path / "libc.so"
    shutil.copy(found, library)

    slim(library)

    assert library.stat().st_size < Path(found).stat().st_size
    code = f"import ctypes; ctypes.CDLL({str(library)!r}); print('ok')"
    assert run([sys.executable, "-c", code], deadline=120).stdout == "ok\n"


def test_what_lies_between_two_segments_goes_and_the_second_keeps_its_place_in_a_page(tmp_path: Path) -> None:
    first, second = b"first" * 40, b"second" * 40
    rows = [(LOAD, 0, 0x1000, 0x1000), (LOAD, 0x9230, len(second), 0x1000), (STACK, 0, 0, 16)]
    data = library(rows, {0x400: first, 0x1000: SYMBOLS, 0x9230: second, 0xA000: SYMBOLS})

    left = slimmed(tmp_path, data)

    moved = segments(left)[1]
    assert moved[2] == 0x1230
    assert left[moved[2] : moved[2] + moved[5]] == second
    assert first in left
    assert SYMBOLS[:14] not in left
    assert len(left) == 0x1230 + len(second)


def test_a_table_of_segments_behind_them_moves_too(tmp_path: Path) -> None:
    rows = [(LOAD, 0, 0x200, 0x1000), (NOTE, 0x100, 0x40, 4)]
    data = library(rows, {0x100: b"note" * 16, 0x200: SYMBOLS}, table=0x4000)

    left = slimmed(tmp_path, data)

    assert HEADER.unpack_from(left)[5] == 0x200
    assert [row[2] for row in segments(left)] == [0, 0x100]
    assert HEADER.unpack_from(left)[6] == HEADER.unpack_from(left)[12] == 0


def test_what_is_no_program_is_left_alone(tmp_path: Path) -> None:
    relocatable = library([], {0x40: SYMBOLS}, kind=1)
    script = b"#!/bin/sh\n"
    small = b"\x7fELF\x01\x01" + SYMBOLS  # 32 bits

    assert [slimmed(tmp_path, data) for data in (relocatable, script, small, b"")] == [relocatable, script, small, b""]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x7fELF\x02\x01 and then nonsense", id="no-header"),
        pytest.param(library([(LOAD, 0, 0x9000, 0x1000)], {0x40: SYMBOLS}), id="cut-short"),
        pytest.param(library([(LOAD, 0, 64, 1)], {64: b""})[:90], id="no-table"),
    ],
)
def test_a_damaged_library_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^library\.so: a damaged program or library: .+"):
        slimmed(tmp_path, data)

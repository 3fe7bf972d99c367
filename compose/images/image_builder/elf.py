"""
Removes from programs and libraries what no loader reads: the symbols for linkers and debuggers, and the section table.

A loader reads only the program headers. So the ranges of the file that they name are kept and moved together, each to
an offset that equals the old one modulo its alignment. Nothing else in a file refers to an offset. This works on any
host; `strip` would be one more program to install, and it often knows only its own system's format.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT: Final = struct.Struct("<IIQQQQQQ")
LOADABLE: Final = frozenset({2, 3})  # programs, and libraries or programs that may lie anywhere
TABLE, SECTIONS, SEGMENTS, SECTION_COUNT, SECTION_NAMES = 5, 6, 10, 12, 13  # fields of the header


class _Segment(NamedTuple):
    """A program header; the fields are those of the format, in its order."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    align: int


class _Range(NamedTuple):
    """Bytes to keep; their offset stays the same modulo *align*."""

    start: int
    end: int
    align: int


def slim(file: Path) -> None:
    """
    Rewrite *file* in place if it is a program or library for a 64-bit little-endian processor; leave others alone.

    Raises:
        ImageError: If it is one, but damaged.
    """
    with file.open("rb") as stream:
        data = stream.read(len(MAGIC))
        if data != MAGIC:
            return
        data += stream.read()
    try:
        slimmed = _slimmed(data)
    except (struct.error, ValueError) as error:
        raise ImageError(f"{file.name}: a damaged program or library: {error}") from None
    if len(slimmed) < len(data):
        file.write_bytes(slimmed)


def _slimmed(data: bytes) -> bytes:
    header = list(HEADER.unpack_from(data))
    table, count = header[TABLE], header[SEGMENTS]
    segments = [_Segment(*SEGMENT.unpack_from(data, table + SEGMENT.size * row)) for row in range(count)]
    if header[1] not in LOADABLE or not count:
        return data
    own = [_Range(0, HEADER.size, 1), _Range(table, table + count * SEGMENT.size, 8)]
    ranges = _merged(own + [_Range(row.offset, row.offset + row.size, max(row.align, 1)) for row in segments])
    if ranges[-1].end > len(data):
        raise ValueError(f"{len(data)} bytes, its headers speak of {ranges[-1].end}")
    places = _places(ranges)
    output = bytearray(places[-1] + ranges[-1].end - ranges[-1].start)
    for kept, to in zip(ranges, places, strict=True):
        output[to : to + kept.end - kept.start] = data[kept.start : kept.end]
    header[TABLE] = _moved(table, ranges, places)
    header[SECTIONS] = header[SECTION_COUNT] = header[SECTION_NAMES] = 0
    HEADER.pack_into(output, 0, *header)
    for row, segment in enumerate(segments):
        moved = segment._replace(offset=_moved(segment.offset, ranges, places))
        SEGMENT.pack_into(output, header[TABLE] + SEGMENT.size * row, *moved)
    return bytes(output)


def _merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Join ranges that overlap or touch; the joined range has the strictest of their alignments."""
    merged: list[_Range] = []
    for item in sorted(ranges):
        if merged and item.start <= merged[-1].end:
            last = merged.pop()
            merged.append(_Range(last.start, max(last.end, item.end), max(last.align, item.align)))
        else:
            merged.append(item)
    return merged


def _places(ranges: Sequence[_Range]) -> list[int]:
    """Return each range's new offset: the first after the previous range that its alignment allows."""
    places = []
    end = 0
    for item in ranges:
        places.append(end + (item.start - end) % item.align)
        end = places[-1] + item.end - item.start
    return places


def _moved(offset: int, ranges: Sequence[_Range], places: Sequence[int]) -> int:
    """Return where the byte at *offset* is now."""
    return next(
        to + offset - kept.start for kept, to in zip(ranges, places, strict=True) if kept.start <= offset <= kept.end
    )

"""What a picture file is made of, walked before anything is decoded.

Decoders spend time on every part of a file, some of them in Python: a few megabytes of empty chunks, repeated scans or
offsets keep them busy for many seconds. Nothing here looks at more than the parts' headers, in which a picture of a
size that is allowed has far fewer than the limits below.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

MAX_PARTS = 20_000
"""Chunks of a PNG, blocks before a GIF's first frame, strips or tiles of a TIFF; an A1 poster has 6,622 rows."""
MAX_PACKED = 100
"""Compressed chunks of a PNG that are no pixels (texts, a colour profile); each is unpacked to 1 MiB at most."""
MAX_SEGMENTS = 1_000
"""Segments of a JPEG: a colour profile has up to 255."""
MAX_ALIKE = 16
"""Segments of each kind in `_SLOW` before a JPEG's pixels, or blocks of Exif; there are rarely more than two."""
MAX_RESOURCES = 64
"""Segments of Photoshop's resources before a JPEG's pixels: 4 MiB."""
MAX_FILL = 2**16
"""Bytes before a JPEG's pixels that belong to no segment."""
MAX_SCANS = 100
"""Scans of a progressive JPEG: encoders write about ten."""
MAX_SCANNED = 1_500_000_000
"""Scans times pixels: 25 for the largest picture that is decoded."""
MAX_NUMBERS = 250_000
"""Numbers in a TIFF's directories: a transfer function has 196,608, the places and lengths of strips up to 40,000."""
MAX_TAGS = 4_096
"""Tags in one directory of a TIFF."""


def excess(data: bytes) -> str | None:
    """Why a picture is not given to a decoder: what it has too much of for a picture, or how it is coded.

    Files that are cut short, damaged or of another format are none of its business: the answer is None.

    >>> excess(b"GIF89a cut short")
    """
    try:
        if data[4:8] == b"ftyp":
            return _avif(data)
        for beginning, walk in _WALKS.items():
            if data.startswith(beginning):
                return walk(data)
    except (struct.error, IndexError):
        pass  # cut short
    return None


def _too_many(what: str, most: int) -> str:
    return f"has more than {most:,} {what}, which no picture needs; save it again with another program"


# JPEG: FF and a byte begin a segment; FF 00 and FF D0 … FF D7 are part of the pixels, and FF FF of nothing.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI, _SOS, _EXIF, _PHOTOSHOP = 0xD8, 0xD9, 0xDA, 0xE1, 0xED
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}
_BARE = frozenset([*range(0x01, 0xC0), _SOI, _EOI, *range(0xF0, 0xFE)])
"""Markers that nothing belongs to, or that every decoder stops at."""
_SLOW = frozenset({0xDB, _EXIF, _PHOTOSHOP, *_FRAMES})
"""Segments whose content is read in Python."""


def _jpeg(data: bytes) -> str | None:
    place, segments, scans, fill, pixels = 2, 0, 0, 0, 0
    alike: Counter[int] = Counter()
    while (found := _MARKER.search(data, place)) is not None and segments <= MAX_PARTS:
        marker = data[found.end() - 1]
        segments += 1
        if not scans:
            fill += found.start() - place
            if fill > MAX_FILL:
                return _too_many("bytes between its segments", MAX_FILL)
            if segments > MAX_SEGMENTS:
                return _too_many("segments", MAX_SEGMENTS)
        elif marker == _EOI:
            return None
        place = found.end()
        if marker in _BARE:
            continue
        if marker in _ARITHMETIC:
            return "is a JPEG with arithmetic coding, which is not read; save it as an ordinary one"
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 3)
            pixels = max(pixels, min(height * width, MAX_SCANNED // 25))
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
                return _too_many("scans", min(MAX_SCANS, MAX_SCANNED // max(1, pixels)))
        elif marker in _SLOW and not scans and (marker != _EXIF or data.startswith(b"Exif\0\0", place + 2)):
            alike[marker] += 1
            most = MAX_RESOURCES if marker == _PHOTOSHOP else MAX_ALIKE
            if alike[marker] > most:
                return _too_many("segments of one kind", most)
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return _too_many("segments", MAX_PARTS) if segments > MAX_PARTS else None


def _png(data: bytes) -> str | None:
    place, chunks, packed = 8, 0, 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, place)
        chunks += 1
        packed += kind in (b"iCCP", b"zTXt", b"iTXt")
        if chunks > MAX_PARTS:
            return _too_many("chunks", MAX_PARTS)
        if packed > MAX_PACKED:
            return _too_many("compressed texts", MAX_PACKED)
        if kind == b"IEND":
            return None
        place += 12 + length


def _gif(data: bytes) -> str | None:
    place, blocks = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0), 0

    def block() -> int:
        nonlocal place, blocks
        size = data[place]
        place += 1 + size
        blocks += 1
        return size

    while blocks <= MAX_PARTS:
        byte, kind = data[place], data[place + 1]
        if byte in b",;":  # the first frame, or the end
            return None
        if byte != 0x21:  # no extension: a byte that is skipped
            place += 1
            blocks += 1
            continue
        place += 2
        first = block()
        if kind == 0xFE and not first:
            continue
        # As Pillow reads: blocks of other extensions go on after a first one that is empty.
        if kind == 0xFF and data.startswith(b"NETSCAPE2.0", place - first):
            block()
        while block() and blocks <= MAX_PARTS:
            pass
    return _too_many("blocks before its first frame", MAX_PARTS)


def _bmp(data: bytes) -> str | None:
    header, compression = struct.unpack_from("<I12xI", data, 14)
    if header > 12 and compression in (1, 2):
        return "is a compressed BMP, which is not read; save it uncompressed, or as PNG"
    return None


# TIFF: tags, and the letters by which `struct` reads the types of whole numbers.
_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT = (
    256,
    257,
    259,
    277,
    278,
    284,
    322,
    323,
)
_STRIPS, _TILES = 273, 324
_LAYOUT = frozenset(
    {*(_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT), _STRIPS, _TILES}
)
_BELOW = frozenset({34665, 34853, 40965})
"""Tags that lead to further directories: Exif, GPS, interoperability."""
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_BYTES = frozenset({1, 2, 7})


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    kind: int
    count: int
    at: int  # where its values lie in the file

    def values(self, data: bytes, order: str) -> tuple[int, ...]:
        """Its values; none where they are no whole numbers or lie outside the file."""
        form = f"{order}{self.count}{_NUMBERS.get(self.kind, 'x')}"
        inside = self.count <= MAX_PARTS and self.at + struct.calcsize(form) <= len(data)
        return struct.unpack_from(form, data, self.at) if inside else ()


def _tiff(data: bytes, most: int = MAX_NUMBERS) -> str | None:
    order, big = "<" if data.startswith(b"II") else ">", data[2] == 43
    waiting = list(struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4))
    numbers = 0
    for depth in range(8):
        if depth == len(waiting):
            break
        first: dict[int, _Tag] = {}
        for index, tag in enumerate(_tags(data, waiting[depth], order, big)):
            if index == MAX_TAGS:
                return _too_many("tags", MAX_TAGS)
            numbers += 0 if tag.kind in _BYTES else tag.count
            if numbers > most:
                return _too_many("numbers in its tags", most)
            if tag.number in _BELOW and tag.count == 1:
                waiting.extend(tag.values(data, order))
            if depth == 0 and tag.number in _LAYOUT and first.setdefault(tag.number, tag) is not tag:
                return "has a tag twice; save it again with another program"
        if depth == 0 and (reason := _parts(data, order, first)) is not None:
            return reason
    return None


def _tags(data: bytes, place: int, order: str, big: bool) -> Iterator[_Tag]:
    """The tags of a directory, as far as the file goes."""
    head, size, room = (f"{order}HHQ", 20, 8) if big else (f"{order}HHI", 12, 4)
    start = place + (8 if big else 2)
    if start > len(data):
        return
    (tags,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, place)
    for entry in range(start, min(start + tags * size, len(data) - size + 1), size):
        number, kind, count = struct.unpack_from(head, data, entry)
        at = entry + size - room
        if count * struct.calcsize(f"={_NUMBERS.get(kind, 'x')}") > room:
            (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, at)
        yield _Tag(number, kind, count, at)


def _parts(data: bytes, order: str, tags: dict[int, _Tag]) -> str | None:
    """What is wrong with the strips or tiles: too many, or so near to each other that each would be read in crumbs."""

    def value(number: int, otherwise: int) -> int:
        found = tags[number].values(data, order) if number in tags else ()
        return max(1, found[0]) if found else otherwise

    width, height = value(_WIDTH, 1), value(_HEIGHT, 1)
    planes = value(_SAMPLES, 1) if value(_PLANAR, 1) == 2 else 1  # a picture of one colour each, or one of all
    rows = min(height, value(_ROWS, height))
    shapes = {_STRIPS: (width, rows), _TILES: (value(_TILE_WIDTH, width), value(_TILE_HEIGHT, height))}
    for number in tags.keys() & shapes.keys():
        across, down = shapes[number]
        a_plane = -(-width // across) * -(-height // down)
        if tags[number].count > min(MAX_PARTS, max(10, planes * a_plane)):
            return "has more strips or tiles than a picture of its size needs; save it again with another program"
        if value(_COMPRESSION, 1) != 1:
            continue
        last = down if number == _TILES else height - down * (a_plane - 1)
        # A pixel has a bit at least.
        spans = sorted(
            (offset, across * (down if index % a_plane else last) // 8)
            for index, offset in enumerate(tags[number].values(data, order), 1)
        )
        if any(0 < after - offset < length for (offset, length), (after, _) in pairwise(spans)):
            return "has strips or tiles that overlap; save it again with another program"
    return None


# AVIF: Exif lies anywhere in it, and Pillow may write it anew when it opens the file.
_TIFF_HEADER = re.compile(rb"II[*+]\0|MM\0[*+]")


def _avif(data: bytes) -> str | None:
    for number, found in enumerate(_TIFF_HEADER.finditer(data)):
        if number == MAX_ALIKE:
            return _too_many("blocks of Exif", MAX_ALIKE)
        with suppress(struct.error):
            if (reason := _tiff(data[found.start() :], MAX_NUMBERS // 4)) is not None:
                return reason
    return None


_WALKS: dict[bytes, Callable[[bytes], str | None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"II": _tiff,
    b"MM\0+": lambda data: "is a big-endian BigTIFF, which is not read; save it as an ordinary TIFF",
    b"MM": _tiff,
}

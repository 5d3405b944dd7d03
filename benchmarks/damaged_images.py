"""Posters with every kind of damage: none may crash the decoder, hold it for 2 s or take 500 MB.

Each good picture (seven formats, in their variants) is cut at every hundredth of its length, and each of its bytes is
changed in every way of CLASSES; pictures made to keep a decoder busy (`hostile`) are tried too. Every format is decoded
in a process of its own, which the system kills after 2 s of processor time with one picture; the memory is the most
that the process ever had.

python benchmarks/damaged_images.py [--step N]     N = 1 changes every byte (ten minutes); 40 every fortieth
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmgcs.errors import InputError
from mmgcs.preprocess.decode import decode_poster

SECONDS, MEBIBYTES = 2.0, 500
HOSTILE = "hostile"
HEADER = 96
"""Bytes at a file's beginning of which every one is changed, whatever the step."""

CLASSES = {
    "zero": lambda data, place: data[:place] + b"\0" + data[place + 1 :],
    "all bits set": lambda data, place: data[:place] + b"\xff" + data[place + 1 :],
    "highest bit flipped": lambda data, place: data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :],
    "lowest bit flipped": lambda data, place: data[:place] + bytes([data[place] ^ 0x01]) + data[place + 1 :],
    "largest 4-byte number": lambda data, place: data[:place] + b"\x7f\xff\xff\xff" + data[place + 4 :],
    "largest 4-byte number, turned": lambda data, place: data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :],
    "dimension of 7,000": lambda data, place: data[:place] + b"\x1b\x58" + data[place + 2 :],
    "dimension of 7,000, turned": lambda data, place: data[:place] + b"\x58\x1b" + data[place + 2 :],
    "left out": lambda data, place: data[:place] + data[place + 1 :],
    "twice": lambda data, place: data[: place + 1] + data[place:],
    "eight bytes of text": lambda data, place: data[:place] + b"ABCDEFGH" + data[place + 8 :],
}


def pictures() -> dict[str, bytes]:
    """Good pictures, by the name of their kind."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 4), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((12, 16)).resize((48, 64), Image.Resampling.BICUBIC)
    colour, clear = smooth.convert("RGB"), smooth.convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    sixteen = Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257)
    frames = [colour.convert("P"), colour.transpose(Image.Transpose.ROTATE_180).convert("P")]
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (colour, "JPEG", {"quality": 60, "exif": exif}),
        "jpeg progressive": (colour, "JPEG", {"quality": 60, "progressive": True}),
        "jpeg cmyk": (colour.convert("CMYK"), "JPEG", {"quality": 40}),
        "png": (colour, "PNG", {}),
        "png alpha": (clear, "PNG", {}),
        "png palette": (colour.convert("P"), "PNG", {"transparency": 3}),
        "png 16 bit": (sixteen, "PNG", {}),
        "webp": (colour, "WEBP", {"quality": 60}),
        "webp lossless": (clear, "WEBP", {"lossless": True}),
        "gif animated": (frames[0], "GIF", {"save_all": True, "append_images": frames[1:]}),
        "bmp": (colour.resize((24, 32)), "BMP", {}),
        "tiff": (colour.resize((24, 32)), "TIFF", {}),
        "tiff lzw": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "tiff deflate": (clear, "TIFF", {"compression": "tiff_deflate"}),
        "avif": (colour, "AVIF", {"quality": 60}),
    }
    made = {}
    for name, (picture, kind, options) in kinds.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


def damaged(data: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    """What can become of a file, and what was done to it."""
    for percent in range(100):
        yield f"cut at {percent}%", data[: len(data) * percent // 100]
    places = [*range(min(HEADER, len(data))), *range(HEADER, len(data), step)]
    for place in places:
        for name, change in CLASSES.items():
            yield f"byte {place}: {name}", change(data, place)


def hostile(size: int = 10 * 2**20) -> Iterator[tuple[str, bytes]]:
    """Sound pictures with a part that is there many times over, none much larger than `size` bytes."""

    def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    noise = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    colour = Image.fromarray(noise)
    jpeg, png, gif = encoded(colour, "JPEG"), encoded(colour, "PNG"), encoded(colour.convert("P"), "GIF")
    yield "jpeg: fill bytes", jpeg[:2] + b"\xff" * size + jpeg[2:]
    yield "jpeg: bytes between segments", jpeg[:2] + b"\0" * size + jpeg[2:]
    yield "jpeg: comments", jpeg[:2] + b"\xff\xfe\0\x02" * (size // 4) + jpeg[2:]
    yield "jpeg: comments between scans", jpeg[:-2] + b"\xff\xfe\0\x02" * (size // 4) + jpeg[-2:]
    table = b"\xff\xdb" + struct.pack(">H", 2 + 65 * 1000) + (b"\0" + b"\1" * 64) * 1000
    yield "jpeg: quantization tables", jpeg[:2] + table * (size // len(table)) + jpeg[2:]
    exif = b"\xff\xe1" + struct.pack(">H", 65_000) + b"Exif\0\0".ljust(64_998, b"x")
    yield "jpeg: Exif", jpeg[:2] + exif * (size // len(exif)) + jpeg[2:]
    for width, height, scans in ((6400, 6250, 2000), (800, 1200, 20_000)):
        yield f"jpeg: {scans} scans", repeated_scans(width, height, scans)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    yield "png: chunks", png[:33] + chunk(b"vpAg", b"") * (size // 12) + png[33:]
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20)))
    yield "png: colour profiles", png[:33] + profile * (size // len(profile)) + png[33:]
    tags = struct.pack("<HHHIHxxHHIII", 2, 0x112, 3, 1, 6, 0x9C9B, 5, size // 8, 38, 0)
    rationals = b"II*\0\x08\0\0\0" + tags
    yield "png: Exif of rationals", png[:33] + chunk(b"eXIf", rationals + b"\1\0\0\0" * (size // 4)) + png[33:]
    yield "gif: comments", gif[:781] + b"!\xfe\x01a\0" * (size // 5) + gif[781:]
    yield "gif: bytes before the frame", gif[:781] + b"\0" * size + gif[781:]
    head = struct.pack("<IiiHHIIiiII", 40, 2284, 2284, 1, 8, 1, size, 0, 0, 256, 0) + bytes(1024)
    yield (
        "bmp: runs",
        b"BM" + struct.pack("<IHHI", 14 + len(head) + size, 0, 0, 14 + len(head)) + head + b"\1\7" * (size // 2),
    )
    for order in "<>":
        for big in (False, True):
            yield f"tiff: strips, {order} {big}", tiff(64, 96, 1, [8] * (size // 8 if big else size // 4), order, big)
    yield "tiff: a strip a row", tiff(8, size // 4, 1, [8] * (size // 4))
    yield "tiff: strips a byte apart", tiff(2000, 2000, 1000, [8, 9], pixels=size)


def repeated_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG with the same empty scan many times over."""
    buffer = io.BytesIO()
    Image.new("L", (width, height), 90).save(buffer, "JPEG", progressive=True, quality=50)
    runs = -(-(-(-width // 8) * -(-height // 8)) // 16384)  # of blocks that end at once
    bits = ("0" + "0" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    codes = b"\xff\xc4\0\x14\x10\x01" + bytes(15) + b"\xe0"
    return buffer.getvalue()[:-2] + codes + (b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" + data) * scans + b"\xff\xd9"


def tiff(
    width: int, height: int, rows: int, strips: list[int], order: str = "<", big: bool = False, pixels: int = 0
) -> bytes:
    """A grey TIFF whose strips lie at these places."""
    entry, number, word, first = ("HHQQ", "Q", 16, 16) if big else ("HHII", "I", 4, 8)
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, None), (277, 1), (278, rows)]
    size = struct.calcsize(f"={entry}")
    places = first + struct.calcsize("Q" if big else "H") + size * len(tags) + struct.calcsize(number)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HI", 42, first)
    directory = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    for tag, value in tags:
        # Numbers that fill their room lie the same way in it, whatever the order of bytes.
        kind, count, held = (word, 1, value) if value is not None else (word, len(strips), places)
        directory += struct.pack(f"{order}{entry}", tag, kind, count, held)
    offsets = struct.pack(f"{order}{len(strips)}{number}", *strips)
    return mark + head + directory + struct.pack(f"{order}{number}", 0) + offsets + bytes(pixels)


def decode_all(name: str, step: int, case: int) -> dict[str, int]:
    """Decode every damaged form of one picture, or the hostile ones; `case` is a file that names the one tried."""
    counts = {"read": 0, "refused": 0}
    for what, data in hostile() if name == HOSTILE else damaged(pictures()[name], step):
        os.pwrite(case, what.ljust(60).encode(), 0)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the signal's own action is the end of the process
        try:
            picture = decode_poster(data, at_least=(448, 448))
            assert picture.mode == "RGB"
            counts["read"] += 1
        except InputError as error:
            assert "\n" not in str(error), what
            counts["refused"] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {**counts, "mebibytes": most_memory()}


def most_memory() -> int:
    """The most memory that this process ever had, in MiB. (`getrusage` counts what it had as a copy of its parent.)"""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def run(step: int) -> list[dict[str, object]]:
    """Decode every picture's damaged forms. Returns a row a picture; `wrong` says what must not be."""
    rows = []
    for name in [*pictures(), HOSTILE]:
        with tempfile.NamedTemporaryFile() as case:
            command = [sys.executable, __file__, "--step", str(step), "--one", name, "--case", case.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            row: dict[str, object] = {"picture": name, "wrong": None}
            if done.returncode:
                tried = Path(case.name).read_text(encoding="utf-8").strip()
                ended = "over 2 s" if done.returncode == -signal.SIGPROF else f"status {done.returncode}"
                row["wrong"] = f"{tried}: {ended}: {done.stderr.strip().splitlines()[-1:]}"
            else:
                row.update(json.loads(done.stdout))
                if int(row["mebibytes"]) > MEBIBYTES:  # type: ignore[call-overload]
                    row["wrong"] = f"{row['mebibytes']} MiB"
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        with contextlib.closing(Path(options.case).open("r+b")) as case:
            print(json.dumps(decode_all(options.one, options.step, case.fileno())))
        return
    rows = run(options.step)
    for row in rows:
        print(f"{row['picture']:>18}: {row['wrong'] or 'sound'}, {row.get('read')} read, {row.get('refused')} refused, "
              f"{row.get('mebibytes')} MiB at most")  # fmt: skip
    tried = sum(int(row.get("read", 0)) + int(row.get("refused", 0)) for row in rows)  # type: ignore[call-overload]
    wrong = sum(row["wrong"] is not None for row in rows)
    print(f"{tried:,} damaged pictures of {len(rows)} kinds; {wrong} kinds of picture did harm")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

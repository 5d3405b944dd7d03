"""Posters with every kind of damage: none may crash the decoder, keep it busy for 2 s or take 500 MB.

Each good picture (six formats, in their variants) is cut at every hundredth of its length, and each of its bytes is
changed in every way of CLASSES. Every format is decoded in a process of its own, which the system kills after 2 s of
processor time with one picture; the memory is the peak of that process.

python benchmarks/damaged_images.py [--step N]     N = 1 changes every byte (ten minutes); 40 every fortieth
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmgcs.errors import InputError
from mmgcs.preprocess.decode import decode_poster

SECONDS, MEBIBYTES = 2.0, 500
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


def decode_all(name: str, step: int, case: int) -> dict[str, int]:
    """Decode every damaged form of one picture; `case` is a file that names the one being decoded."""
    counts = {"read": 0, "refused": 0}
    for what, data in damaged(pictures()[name], step):
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
    for name in pictures():
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

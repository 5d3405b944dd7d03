"""Posters of every kind are decoded within limits or refused with one line."""

from __future__ import annotations

import io
import os
import runpy
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.preprocess import PosterPixels, decode_poster, read_poster_size
from mmgcs.preprocess.decode import MAX_BYTES


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


RED = Image.new("RGB", (60, 90), (200, 30, 30))
BMP_OF_RUNS = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 9, 9, 1, 8, 1, 4, 0, 0, 2, 0) + bytes(40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_supported_format_is_read_as_rgb_of_its_colour(kind: str) -> None:
    picture = decode_poster(encoded(RED, kind))
    assert (picture.mode, picture.size) == ("RGB", (60, 90))
    np.testing.assert_allclose(np.asarray(picture).mean(axis=(0, 1)), (200, 30, 30), atol=8)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 60 * 90).reshape(90, 60).astype(np.uint16)
    values = np.asarray(decode_poster(encoded(Image.fromarray(ramp), "PNG")))
    assert values[0, 0].max() <= 1
    assert values[-1, -1].min() >= 254
    assert 120 <= values[45].mean() <= 136


def test_a_palette_with_transparency_is_laid_over_white() -> None:
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([10, 10, 10, 0, 0, 200])
    picture.putpixel((5, 5), 1)
    result = decode_poster(encoded(picture, transparency=0))
    assert result.getpixel((0, 0)) == (255, 255, 255)
    assert result.getpixel((5, 5)) == (0, 0, 200)


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    result = decode_poster(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 128))))
    assert 125 <= result.getpixel((3, 3))[0] <= 129  # type: ignore[index]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (20, 30), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    red, green, _ = np.asarray(decode_poster(data)).reshape(-1, 3).mean(axis=0)
    assert red > 200 > 50 > green


def test_a_turned_photograph_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decode_poster(encoded(RED, "JPEG", exif=exif)).size == (90, 60)


UNUSABLE = {
    "empty": (b"", "is empty"),
    "text": (b"this is a text file named .jpg\n" * 50, "is not a picture"),
    "cut header": (encoded(RED, "JPEG")[:-200], "damaged"),
    "cut JPEG": (encoded(Image.effect_noise((300, 300), 60), "JPEG")[:9000], "damaged or cut short"),
    "cut PNG": (encoded(Image.effect_noise((80, 80), 60), "PNG")[:600], "damaged"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1))), "too small"),
    "line": (encoded(Image.new("RGB", (2000, 2))), "too small"),
    "broken header": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "damaged|not a picture"),
    "TIFF": (encoded(RED, "TIFF"), "is a TIFF file, which is not supported; convert it to JPEG or PNG"),
    "compressed BMP": (BMP_OF_RUNS, "is a compressed BMP file"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "is not a picture"),
}


@pytest.mark.parametrize(("data", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_poster_that_cannot_be_used_is_refused_with_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "poster.jpg"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(InputError, match=message) as caught:
            decode_poster(source)
        assert "\n" not in str(caught.value)


def test_an_enormous_picture_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    # The header says 20,000 x 20,000 and there are no pixels at all: whichever thread decodes fails otherwise.
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="20000 × 20000 pixels, over the limit"):
        decode_poster(data)
    with pytest.raises(InputError, match="over the limit of 40,000,000"):
        read_poster_size(data)


def test_a_caller_may_set_a_lower_pixel_limit() -> None:
    assert read_poster_size(encoded(RED), max_pixels=5400) == (60, 90)
    for read in (decode_poster, read_poster_size):
        with pytest.raises(InputError, match="60 × 90 pixels, over the limit of 5,000"):
            read(encoded(RED), max_pixels=5000)


def test_a_jpeg_over_the_limit_is_decoded_at_a_fraction_of_its_size() -> None:
    large = Image.new("L", (7000, 7000), 90)
    assert decode_poster(encoded(large, "JPEG"), at_least=(448, 448)).size == (875, 875)
    assert decode_poster(encoded(large, "JPEG")).size == (3500, 3500)
    with pytest.raises(InputError, match="over the limit"):  # decoders hold all of a progressive JPEG in memory
        decode_poster(encoded(large, "JPEG", progressive=True))


def test_a_large_picture_is_shrunk_in_each_direction_as_far_as_it_may_be() -> None:
    ramp = np.linspace(0, 255, 4100, dtype=np.uint8)
    grey = Image.fromarray(np.broadcast_to(ramp, (4096, 4100)))
    clear = Image.merge("LA", (grey, Image.new("L", grey.size, 128)))
    small = np.asarray(decode_poster(encoded(clear, compress_level=1), at_least=(448, 448)))
    assert small.shape == (456, 456, 3)
    expected = 255 - (255 - np.asarray(grey.reduce(9), dtype=np.float64)) * 128 / 255
    np.testing.assert_allclose(small[..., 0], expected, atol=2)
    tall = encoded(Image.new("LA", (10, 1_700_000), (0, 255)), compress_level=1)
    assert decode_poster(tall, at_least=(448, 448)).size == (10, -(-1_700_000 // (1_700_000 // 448)))


@pytest.mark.slow
def test_three_pictures_of_40_megapixels_take_the_memory_of_one() -> None:
    code = """
import io, threading
from pathlib import Path
from PIL import Image
from mmgcs.preprocess import decode_poster
out = io.BytesIO()
Image.new("RGB", (8000, 5000), "red").save(out, "WEBP", method=0, quality=1)
def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
def run(count):
    threads = [threading.Thread(target=decode_poster, args=(out.getvalue(),), kwargs={"at_least": (448, 448)})
               for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return most()
print(run(1), run(3))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    one, three = map(int, done.stdout.split())
    assert three < 1.3 * one < 1300


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_in_place_of_a_poster_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "poster.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"poster\.jpg cannot be read \(it is a pipe or a device"):
        decode_poster(path)


def test_a_file_over_the_limit_is_refused_after_no_more_than_that_was_read(tmp_path: Path) -> None:
    path = tmp_path / "poster.jpg"
    with path.open("wb") as handle:
        handle.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="is larger than 64 MiB"):
        decode_poster(path)


def test_posters_become_pixels_of_the_model_size() -> None:
    prepared = PosterPixels(48, 32).prepare([Film(poster=encoded(RED)), Film(poster=encoded(RED, "JPEG"))])
    pixels = PosterPixels(48, 32).collate(prepared)["pixels"]
    assert (pixels.shape, pixels.dtype) == ((2, 48, 32, 3), np.uint8)


@given(st.binary(max_size=400), st.integers(0, 800))
def test_damage_anywhere_gives_a_picture_or_an_input_error(damage: bytes, place: int) -> None:
    data = bytearray(encoded(RED, "JPEG"))
    data[place : place + len(damage)] = damage
    try:
        assert decode_poster(bytes(data)).mode == "RGB"
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.slow
def test_no_damaged_picture_crashes_takes_two_seconds_or_fills_the_memory() -> None:
    # The benchmark without --step changes every byte.
    rows = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "damaged_images.py"))["run"](120)
    assert [(row["picture"], row["wrong"]) for row in rows if row["wrong"]] == []
    assert len(rows) == 12
    assert sum(row["read"] + row["refused"] for row in rows) > 12_000
    assert all(row["refused"] > 100 and row["read"] > 0 for row in rows)

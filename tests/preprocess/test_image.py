"""Posters of every kind are decoded within limits or refused with one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.preprocess import PosterPixels
from mmgcs.preprocess.decode import MAX_BYTES, decode_poster, read_poster_size


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


RED = Image.new("RGB", (60, 90), (200, 30, 30))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_supported_format_is_read_as_rgb_of_its_colour(kind: str) -> None:
    picture = decode_poster(encoded(RED, kind))
    assert (picture.mode, picture.size) == ("RGB", (60, 90))
    np.testing.assert_allclose(np.asarray(picture).mean(axis=(0, 1)), (200, 30, 30), atol=8)


def test_cmyk_is_converted() -> None:
    picture = decode_poster(encoded(RED.convert("CMYK"), "JPEG"))
    np.testing.assert_allclose(np.asarray(picture).mean(axis=(0, 1)), (200, 30, 30), atol=12)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 60 * 90).reshape(90, 60).astype(np.uint16)
    for kind, form in (("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF")):  # big-endian TIFF has a mode of its own
        values = np.asarray(decode_poster(encoded(Image.fromarray(ramp.astype(kind)), form)))
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


def test_a_poster_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jpg does not exist"):
        decode_poster(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"this is a text file named .jpg\n" * 50, "is not a picture"),
        (encoded(RED, "JPEG")[:-200], "damaged"),
        (encoded(Image.effect_noise((300, 300), 60), "JPEG")[:9000], "damaged or cut short"),
        (encoded(Image.effect_noise((80, 80), 60), "PNG")[:600], "damaged"),
        (encoded(Image.new("RGB", (1, 1))), "too small"),
        (encoded(Image.new("RGB", (2000, 2))), "too small"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "damaged|not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "is not a picture"),
    ],
    ids=["empty", "text", "cut-header", "cut-jpeg", "cut-png", "1x1", "line", "broken-header", "postscript"],
)
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

    # The header says 20,000 x 20,000 and there are no pixels at all: whoever decodes fails otherwise.
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="20000 × 20000 pixels, over the limit"):
        decode_poster(data)
    with pytest.raises(InputError, match="over the limit"):
        read_poster_size(data)


def test_a_folder_in_place_of_a_poster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        decode_poster(tmp_path)


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

"""Pictures whose parts would keep a decoder busy are refused unread, in one line; ordinary ones never are."""

from __future__ import annotations

import io
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgcs.errors import InputError
from mmgcs.preprocess.decode import decode_poster, read_poster_size
from mmgcs.preprocess.structure import excess

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "damaged_images.py"))
HOSTILE = dict(BENCHMARK["hostile"](2**21))
SAMPLE = Path(__file__).parents[2] / "src" / "mmgcs" / "sample" / "posters"


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - {"png: Exif of rationals"}))
def test_a_picture_with_a_part_many_times_over_is_refused_unread(name: str) -> None:
    for read in (decode_poster, read_poster_size):
        with pytest.raises(InputError, match=r"the poster (has|is)") as caught:
            read(HOSTILE[name])
        assert "\n" not in str(caught.value)
        assert "save it" in str(caught.value)


def test_a_compressed_bmp_is_named_as_such() -> None:
    with pytest.raises(InputError, match="is a compressed BMP, which is not read"):
        decode_poster(HOSTILE["bmp: runs"])


def test_an_arithmetic_jpeg_is_named_as_such() -> None:
    data = encoded(Image.new("RGB", (32, 32)), "JPEG").replace(b"\xff\xc0", b"\xff\xc9")
    with pytest.raises(InputError, match="arithmetic coding"):
        decode_poster(data)


@pytest.mark.parametrize("name", sorted(BENCHMARK["pictures"]()))
def test_no_ordinary_picture_has_too_much_of_anything(name: str) -> None:
    assert excess(BENCHMARK["pictures"]()[name]) is None


def test_no_poster_of_the_sample_has_too_much_of_anything() -> None:
    posters = sorted(SAMPLE.glob("*.jpg"))
    assert posters
    assert [path.name for path in posters if excess(path.read_bytes()) is not None] == []


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_strips_as_many_as_a_tiff_has_rows_are_read(order: str, big: bool) -> None:
    after = len(BENCHMARK["tiff"](64, 96, 1, [0] * 96, order, big))
    data = BENCHMARK["tiff"](64, 96, 1, [after + 64 * row for row in range(96)], order, big, pixels=64 * 96)
    assert excess(data) is None
    assert decode_poster(data).size == (64, 96)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_tiffs_in_tiles_strips_and_planes_are_read(compression: str | None) -> None:
    picture = Image.effect_noise((700, 1000), 60).convert("RGB")
    assert excess(encoded(picture, "TIFF", compression=compression)) is None
    assert decode_poster(encoded(picture, "TIFF", compression=compression, tiffinfo={278: 8})).size == (700, 1000)


def test_a_number_of_scans_that_encoders_write_is_read_whatever_the_size() -> None:
    assert excess(BENCHMARK["repeated_scans"](7000, 8000, 12)) is None
    assert decode_poster(BENCHMARK["repeated_scans"](80, 80, 90)).size == (80, 80)
    assert "more than 100 scans" in (excess(BENCHMARK["repeated_scans"](80, 80, 200)) or "")


def test_scans_hidden_behind_what_looks_like_the_end_of_a_jpeg_are_counted() -> None:
    data = BENCHMARK["repeated_scans"](80, 80, 200)
    first = data.index(b"\xff\xda")
    comment = b"\xff\xfe\0\x06\xff\xd9\xff\xd9"
    assert "scans" in (excess(data[:first] + comment + data[first:]) or "")
    second = data.index(b"\xff\xda", first + 2)
    assert "scans" in (excess(data[:second] + comment + data[second:]) or "")


def test_what_follows_the_end_of_a_jpeg_is_not_looked_at() -> None:
    data = encoded(Image.effect_noise((64, 96), 60), "JPEG")
    assert excess(data + b"\xff\xda\0\x02" * 1000) is None


def test_a_large_picture_that_is_shrunk_in_bands_looks_as_it_does_whole() -> None:
    ramp = np.linspace(0, 255, 4100, dtype=np.uint8)
    grey = Image.fromarray(np.broadcast_to(ramp, (4096, 4100)))
    clear = Image.merge("LA", (grey, Image.new("L", grey.size, 128)))
    small = np.asarray(decode_poster(encoded(clear, "PNG", compress_level=1), at_least=(448, 448)))
    assert small.shape == (456, 456, 3)
    expected = 255 - (255 - np.asarray(grey.reduce(9), dtype=np.float64)) * 128 / 255
    np.testing.assert_allclose(small[..., 0], expected, atol=2)


def test_a_large_picture_is_shrunk_in_each_direction_as_far_as_it_may_be() -> None:
    tall = encoded(Image.new("LA", (10, 1_700_000), (0, 255)), "PNG", compress_level=1)
    assert decode_poster(tall, at_least=(448, 448)).size == (10, -(-1_700_000 // (1_700_000 // 448)))


def test_a_turned_large_picture_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.new("RGB", (4000, 4100), "red"), "PNG", compress_level=1, exif=exif)
    assert decode_poster(turned, at_least=(1000, 1000)).size == (1025, 1000)


def test_a_file_that_ends_anywhere_is_left_to_its_decoder() -> None:
    for data in BENCHMARK["pictures"]().values():
        for end in range(min(len(data), 600)):
            assert excess(data[:end]) is None
    assert excess(b"II*\0" + struct.pack("<I", 2**32 - 1)) is None

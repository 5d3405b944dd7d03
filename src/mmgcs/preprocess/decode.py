"""Decode posters within limits and convert them to RGB.

Apart from `PosterPixels`, so that Pillow is not loaded if there are only plots.
"""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mmgcs.errors import InputError
from mmgcs.files import read_file

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 40_000_000
"""The largest image decoded in full; an A2 poster at 300 dpi has 35 million pixels."""
MAX_JPEG_PIXELS = 100_000_000
"""The largest baseline JPEG. Above `MAX_PIXELS`, it is decoded at a half, a quarter or an eighth of its size."""
MIN_SIDE = 8
SMALL = 4_000_000
"""Images with more pixels than this, after scaling, are decoded one at a time."""
LARGE = 16_000_000
"""Images with more pixels than this are shrunk before they are converted, to save memory."""
# Pillow opens about forty formats, some by running other programs, some with a history of security bugs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")

# Our own limits are checked before decoding.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False

_ONE_LARGE = threading.Lock()
"""Held while a large image is decoded, so that several at once take as much memory as one."""


def read_poster_size(source: Path | bytes, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Return a poster's width and height from its header, without decoding it.

    Args:
        source: the path of a file, or its bytes.
        max_pixels: see `decode_poster`.

    Raises:
        InputError: as `decode_poster` does.
    """
    with _open(source, max_pixels) as image:
        return image.size


def decode_poster(
    source: Path | bytes, *, at_least: tuple[int, int] | None = None, max_pixels: int | None = None
) -> Image.Image:
    """Decode a poster as RGB.

    CMYK and 16-bit images are converted, transparency becomes white, and an animation's first frame is used.

    Args:
        source: the path of a file, or its bytes.
        at_least: the (width, height) that the caller needs. A JPEG is then decoded at the next larger scale, which is
            several times faster, and a `LARGE` image is shrunk before it is converted.
        max_pixels: the largest width × height; by default `MAX_PIXELS`, or `MAX_JPEG_PIXELS` for a baseline JPEG.

    Raises:
        InputError: the file is missing, empty, not an image, damaged, too small or too large.
    """
    with _open(source, max_pixels) as image:
        try:
            width, height = full = image.size
            while width * height > MAX_PIXELS:
                width, height = width // 2, height // 2
            image.draft("RGB", at_least or (width, height))  # only affects JPEG
            # A progressive JPEG takes the memory of its full size at any scale.
            width, height = full if "progressive" in image.info else image.size
            with _ONE_LARGE if width * height > SMALL else nullcontext(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about EXIF and palettes; only the pixels matter
                image.load()
                return _to_rgb(_upright(image), at_least or image.size)
        except Exception as error:  # decoders raise errors of any type
            raise InputError(f"{_name(source)} is damaged or cut short; give an intact picture") from error


def _name(source: Path | bytes) -> str:
    return f"the poster {source}" if isinstance(source, Path) else "the poster"


def _open(source: Path | bytes, max_pixels: int | None) -> Image.Image:
    name = _name(source)
    try:
        data = read_file(source, MAX_BYTES) if isinstance(source, Path) else bytes(source)
    except FileNotFoundError:
        if str(source).startswith(("http:", "https:")):
            raise InputError("the poster is a web address; download the image and give the file") from None
        raise InputError(f"{name} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise InputError(f"{name} is empty; give a picture")
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; give a smaller picture")
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        raise InputError(f"{name} is a TIFF file, which is not supported; convert it to JPEG or PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture; give a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from None
    except Exception as error:
        raise InputError(f"{name} is damaged or cut short; give an intact picture") from error
    width, height = image.size
    draft = image.format == "JPEG" and "progressive" not in image.info
    limit = max_pixels or (MAX_JPEG_PIXELS if draft else MAX_PIXELS)
    if width * height > limit:
        raise InputError(f"{name} is {width} × {height} pixels, over the limit of {limit:,}; shrink it")
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name} is {width} × {height} pixels, too small; give at least {MIN_SIDE} × {MIN_SIDE}")
    if image.format == "BMP" and image.tile and image.tile[0][0] == "bmp_rle":  # decoded in Python, byte by byte
        raise InputError(f"{name} is a compressed BMP file, which is not supported; convert it to JPEG or PNG")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Rotate the image as its EXIF block says."""
    # Pillow rewrites the whole block, which takes 10 s for 10 MiB.
    if sum(len(image.info.get(name, "")) for name in ("exif", "Raw profile type exif")) <= 2**20:
        with suppress(Exception):  # a broken block does not matter
            return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image, at_least: tuple[int, int]) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 255
        values = np.asarray(image)
        image = Image.fromarray((values // (257 if values.max(initial=0) > 255 else 1)).astype(np.uint8))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode not in ("L", "RGB", "CMYK") or has_alpha:
        image = image.convert("RGBA" if has_alpha else "RGB")
    if image.width * image.height > LARGE:
        across, down = (max(1, side // least) for side, least in zip(image.size, at_least, strict=True))
        image = image.reduce((across, down))
    if has_alpha:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")

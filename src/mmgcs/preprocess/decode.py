"""Posters decoded within limits and turned into RGB.

Apart from `PosterPixels`, so that Pillow is only loaded for a poster: a plot is answered without it.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mmgcs.errors import InputError
from mmgcs.files import read_file

MAX_PIXELS = 60_000_000
"""Width times height that is decoded at most: an A1 poster at 200 dpi. Larger pictures are refused unread."""
MAX_BYTES = 64 * 2**20
MIN_SIDE = 8
# Pillow opens some forty formats, several by running other programs or with a history of faults; posters come in these.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Pixel limits are ours and checked before decoding, so Pillow's own warning would say the same thing twice.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False


def read_poster_size(source: Path | bytes) -> tuple[int, int]:
    """The poster's width and height from its header, nothing decoded. Raises InputError as `decode_poster` does."""
    with _open(source) as picture:
        return picture.size


def decode_poster(source: Path | bytes, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a poster as RGB: CMYK and 16-bit converted, transparency over white, the first frame of an animation.

    Args:
        source: a file's path or its bytes.
        at_least: (width, height) that will be resized to; a JPEG is then decoded at the nearest larger scale, which
            is several times faster.

    Raises:
        InputError: the file is missing, empty, not a picture, truncated, too small or too large.
    """
    with _open(source) as picture:
        try:
            if at_least is not None:
                picture.draft("RGB", at_least)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # odd EXIF or palettes: the pixels are what counts
                picture.load()
                return _to_rgb(_upright(picture))
        except Exception as error:  # each decoder has errors of its own
            raise InputError(f"{_name(source)} is damaged or cut short ({error}); give a whole picture") from error


def _name(source: Path | bytes) -> str:
    return f"the poster {source}" if isinstance(source, Path) else "the poster"


def _open(source: Path | bytes) -> Image.Image:
    name = _name(source)
    try:
        if isinstance(source, Path):
            source = read_file(source, MAX_BYTES)
            if len(source) > MAX_BYTES:
                raise InputError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; give a smaller picture")
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not source:
        raise InputError(f"{name} is empty; give a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(source), formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture; give a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from None
    except Exception as error:
        raise InputError(f"{name} is damaged ({error}); give a whole picture") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width} × {height} pixels, over the limit of {MAX_PIXELS // 10**6} million; shrink it"
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{name} is {width} × {height} pixels, too small to show anything; give at least {MIN_SIDE} a side"
        )
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block is no reason to refuse the pixels
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        # Pillow clips these to 255 when converting; scale what is there to 8 bits instead.
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255.0 else 255.0
        return Image.fromarray(np.clip(values / top * 255.0, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")

"""Posters decoded within limits and turned into RGB.

Apart from `PosterPixels`, so that Pillow is only loaded for a poster: a plot is answered without it.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from mmgcs.errors import InputError
from mmgcs.files import read_file
from mmgcs.preprocess.structure import excess

MAX_PIXELS = 60_000_000
"""Width times height that is decoded at most: an A1 poster at 200 dpi. Larger pictures are refused unread."""
MAX_BYTES = 64 * 2**20
LARGE = 16_000_000
"""Pixels over which a picture is shrunk while it is converted, to save memory."""
MIN_SIDE = 8
MAX_EXIF = 2**20
"""Bytes of an EXIF block in which the orientation is looked for."""
# Pillow opens some forty formats, several by running other programs or with a history of faults; posters come in these.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Pixel limits are ours and checked before decoding, so Pillow's own warning would say the same thing twice.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by the orientation that its EXIF block gives."""


def read_poster_size(source: Path | bytes) -> tuple[int, int]:
    """The poster's width and height from its header, nothing decoded. Raises InputError as `decode_poster` does."""
    with _open(source) as picture:
        return picture.size


def decode_poster(source: Path | bytes, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a poster as RGB: CMYK and 16-bit converted, transparency over white, the first frame of an animation.

    Args:
        source: a file's path or its bytes.
        at_least: (width, height) that will be resized to; a JPEG is then decoded at the nearest larger scale, which
            is several times faster, and a `LARGE` picture of another format is shrunk while it is converted.

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
                turn = _turn(picture)  # known before the Exif block is lost
                upright = _to_rgb(picture, at_least or picture.size)
                return upright if turn is None else upright.transpose(turn)
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
    source = bytes(source)  # of a memoryview too
    if not source:
        raise InputError(f"{name} is empty; give a picture")
    if (reason := excess(source)) is not None:
        raise InputError(f"{name} {reason}")
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


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What sets a picture upright, where its Exif block says so."""
    # Not ImageOps.exif_transpose, which writes the whole block anew: for one of 10 MiB that takes 10 s.
    if sum(len(picture.info.get(name, "")) for name in ("exif", "Raw profile type exif")) > MAX_EXIF:
        return None
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken block is no reason to refuse the pixels
        return None


def _to_rgb(picture: Image.Image, at_least: tuple[int, int]) -> Image.Image:
    if picture.mode == "RGB" and picture.width * picture.height <= LARGE:
        return picture
    # Pillow clips wide numbers to 255 when converting; what is there is scaled to 8 bits instead.
    wide = picture.mode in ("I;16", "I;16B", "I;16L", "I", "F")
    top = 65535.0 if wide and _brightest(picture) > 255 else 255.0
    if picture.width * picture.height <= LARGE:
        return _small_to_rgb(picture, top if wide else None)
    # In bands, each shrunk at once: whole, the steps between need a gigabyte.
    across, down = (max(1, side // least) for side, least in zip(picture.size, at_least, strict=True))
    rows = max(1, LARGE // 8 // picture.width // down) * down
    made = Image.new("RGB", (-(-picture.width // across), -(-picture.height // down)))
    for start in range(0, picture.height, rows):
        band = picture.crop((0, start, picture.width, min(start + rows, picture.height)))
        made.paste(_small_to_rgb(band, top if wide else None).reduce((across, down)), (0, start // down))
    return made


def _brightest(picture: Image.Image) -> float:
    if picture.mode in ("I;16B", "I;16L"):  # of which Pillow knows no extremes
        return float(np.asarray(picture).max(initial=0))
    return cast("tuple[float, float]", picture.getextrema())[1]


def _small_to_rgb(picture: Image.Image, top: float | None) -> Image.Image:
    """A picture as RGB; `top` is what stands for white where it holds wide numbers."""
    if top is not None:
        values = np.asarray(picture, dtype=np.float64)
        return Image.fromarray(np.clip(values / top * 255.0, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")

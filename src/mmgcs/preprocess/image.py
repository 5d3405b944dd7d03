"""Decode posters and resize them for an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.preprocess.prepared import PREPROCESSORS, Prepared, whole_number


class PosterPixels:
    """Posters as pixels (height, width, 3) uint8; normalisation is inside the graph.

    Posters are stretched rather than cropped: nearly all are 2:3, and lettering and faces at the edges matter.
    """

    max_pixels: int | None = None
    """The largest width × height that this process decodes; None for the default of `decode_poster`."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Return the pixels of each film's poster. Raises InputError if a poster cannot be used."""
        return [Prepared(self._pixels(film), 1) for film in films]

    def _pixels(self, film: Film) -> NDArray[np.uint8]:
        if film.poster is None:
            raise InputError("there is no poster")
        # Imported here because loading Pillow takes longer than answering a plot.
        from PIL import Image

        from mmgcs.preprocess.decode import decode_poster

        # At twice the size, the resampling filter has enough pixels to average.
        poster = decode_poster(film.poster, at_least=(2 * self.width, 2 * self.height), max_pixels=self.max_pixels)
        resized = poster.resize((self.width, self.height), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return np.asarray(resized, dtype=np.uint8)

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Return `pixels` (batch, height, width, 3) uint8."""
        return {"pixels": np.stack([item.value for item in prepared])}


@PREPROCESSORS.register("pixels")
def _pixels(options: Mapping[str, Any], read: Callable[[str], bytes]) -> PosterPixels:
    del read  # posters need no files
    return PosterPixels(whole_number(options, "height", 1, 4096), whole_number(options, "width", 1, 4096))

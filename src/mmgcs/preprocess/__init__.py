"""Preprocessing of plots and posters, the same for training and for prediction."""

from typing import TYPE_CHECKING, Any

from mmgcs.preprocess.base import PREPROCESSORS, Prepared, Preprocessor
from mmgcs.preprocess.image import PosterPixels
from mmgcs.preprocess.languages import ENGLISH, LANGUAGES, identify_language, unlearned_language
from mmgcs.preprocess.text import PLACEHOLDER, PlotTokens, clean_text, film_text, is_placeholder, placeholder_warning

if TYPE_CHECKING:
    from mmgcs.preprocess.decode import decode_poster, read_poster_size

__all__ = [
    "ENGLISH",
    "LANGUAGES",
    "PLACEHOLDER",
    "PREPROCESSORS",
    "PlotTokens",
    "PosterPixels",
    "Prepared",
    "Preprocessor",
    "clean_text",
    "decode_poster",
    "film_text",
    "identify_language",
    "is_placeholder",
    "placeholder_warning",
    "read_poster_size",
    "unlearned_language",
]


def __getattr__(name: str) -> Any:
    if name in ("decode_poster", "read_poster_size"):  # loading Pillow takes longer than answering a plot
        from mmgcs.preprocess import decode

        return getattr(decode, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

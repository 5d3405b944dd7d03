"""The one implementation of preprocessing, used by training and by running."""

from mmgcs.preprocess.base import PREPROCESSORS, Prepared, Preprocessor
from mmgcs.preprocess.image import PosterPixels, decode_poster, read_poster_size
from mmgcs.preprocess.text import NOT_ENGLISH, PlotTokens, clean_text, film_text, plot_warnings

__all__ = [
    "NOT_ENGLISH",
    "PREPROCESSORS",
    "PlotTokens",
    "PosterPixels",
    "Prepared",
    "Preprocessor",
    "clean_text",
    "decode_poster",
    "film_text",
    "plot_warnings",
    "read_poster_size",
]

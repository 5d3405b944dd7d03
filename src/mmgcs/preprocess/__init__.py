"""The one implementation of preprocessing, used by training and by running."""

from mmgcs.preprocess.base import PREPROCESSORS, Prepared, Preprocessor
from mmgcs.preprocess.image import PosterPixels
from mmgcs.preprocess.text import NOT_ENGLISH, PlotTokens, clean_text, film_text, plot_warnings

__all__ = [
    "NOT_ENGLISH",
    "PREPROCESSORS",
    "PlotTokens",
    "PosterPixels",
    "Prepared",
    "Preprocessor",
    "clean_text",
    "film_text",
    "plot_warnings",
]

"""Preprocessing of plots and posters, the same for training and for prediction."""

from typing import TYPE_CHECKING

from mmgcs.preprocess.image import PosterPixels
from mmgcs.preprocess.languages import ENGLISH, LANGUAGES, UNLEARNED, identify_language, odd_plot
from mmgcs.preprocess.prepared import PREPROCESSORS, Prepared, Preprocessor
from mmgcs.preprocess.text import PLACEHOLDER, PlotTokens, clean_text, film_text, is_placeholder, placeholder_warning
from mmgcs.registry import lazy_exports

if TYPE_CHECKING:
    from mmgcs.preprocess.decode import MAX_PIXELS, decode_poster, read_poster_size

__all__ = [
    "ENGLISH",
    "LANGUAGES",
    "MAX_PIXELS",
    "PLACEHOLDER",
    "PREPROCESSORS",
    "UNLEARNED",
    "PlotTokens",
    "PosterPixels",
    "Prepared",
    "Preprocessor",
    "clean_text",
    "decode_poster",
    "film_text",
    "identify_language",
    "is_placeholder",
    "odd_plot",
    "placeholder_warning",
    "read_poster_size",
]

# Loading Pillow takes longer than answering a plot.
__getattr__ = lazy_exports(__name__, {"decode": ["MAX_PIXELS", "decode_poster", "read_poster_size"]})

"""MMGCS: predict the genres of a film from its plot, its poster, or both.

>>> import mmgcs
>>> prediction = mmgcs.load().predict(plot="Two detectives hunt a killer through the city's underworld.")
>>> prediction.genres[0] in {"Crime", "Thriller"}
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports
from mmgcs.version import __version__

if TYPE_CHECKING:
    from mmgcs.errors import MmgcsError
    from mmgcs.film import Film, Prediction
    from mmgcs.runtime import Classifier, Explanation, explain, load
    from mmgcs.tagging import tag
    from mmgcs.training import GenreClassifier as GenreClassifier
    from mmgcs.training import train as train

__all__ = [
    "Classifier",
    "Explanation",
    "Film",
    "MmgcsError",
    "Prediction",
    "__version__",
    "explain",
    "load",
    "tag",
]

# Importing mmgcs is cheap: onnxruntime is loaded when it is first needed. `training` needs the extra `train`.
__getattr__ = lazy_exports(
    __name__,
    {
        "errors": ["MmgcsError"],
        "film": ["Film", "Prediction"],
        "runtime": ["Classifier", "Explanation", "explain", "load"],
        "tagging": ["tag"],
        "training": ["GenreClassifier", "train"],
    },
)


def __dir__() -> list[str]:
    return sorted([*__all__, "GenreClassifier", "train"])  # those two need the extra `train`

"""MMGCS: which genres a film belongs to, from its plot, its poster, or both.

>>> import mmgcs
>>> prediction = mmgcs.load().predict(plot="Two detectives hunt a killer through the city's underworld.")
>>> prediction.genres[0] in {"Crime", "Thriller"}
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgcs.errors import MmgcsError
    from mmgcs.film import Film, Prediction
    from mmgcs.runtime import Classifier, Explanation, explain, load
    from mmgcs.tagging import tag
    from mmgcs.training import GenreClassifier, train

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Explanation",
    "Film",
    "GenreClassifier",
    "MmgcsError",
    "Prediction",
    "__version__",
    "explain",
    "load",
    "tag",
    "train",
]

# Importing mmgcs is cheap: onnxruntime is loaded when it is first needed.
_MODULES = {
    **dict.fromkeys(["Classifier", "Explanation", "explain", "load"], "mmgcs.runtime"),
    **dict.fromkeys(["Film", "Prediction"], "mmgcs.film"),
    "MmgcsError": "mmgcs.errors",
    "tag": "mmgcs.tagging",
    **dict.fromkeys(["GenreClassifier", "train"], "mmgcs.training"),  # need the extra `train`
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'mmgcs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

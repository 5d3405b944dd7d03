"""MMGCS: which genres a film belongs to, from its plot, its poster, or both.

>>> import mmgcs
>>> prediction = mmgcs.load().predict(plot="Two detectives hunt a killer through the city's underworld.")
>>> prediction.genres[0] in {"Crime", "Thriller"}
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgcs.film import Film, Prediction
    from mmgcs.runtime import Classifier, load

__version__ = "0.1.0"
__all__ = ["Classifier", "Film", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Importing mmgcs must cost nothing: onnxruntime is loaded when it is first needed.
    if name in ("Classifier", "load"):
        import mmgcs.runtime

        return getattr(mmgcs.runtime, name)
    if name in ("Film", "Prediction"):
        import mmgcs.film

        return getattr(mmgcs.film, name)
    raise AttributeError(f"module 'mmgcs' has no attribute {name!r}")

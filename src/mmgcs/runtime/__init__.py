"""Run a bundle with onnxruntime, numpy, Pillow and tokenizers; never torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports
from mmgcs.runtime.classifier import BATCH, BATCHES, STRANGE, Classifier, Features, PreparedFilm, load, without
from mmgcs.runtime.decisions import expected_f1, log_odds, sigmoid
from mmgcs.runtime.domain import DETECTOR_KEY, PictureDetector, picture_statistics
from mmgcs.runtime.explanation import MAX_PASSES, Explanation, explain

if TYPE_CHECKING:
    from mmgcs.runtime.batch import predict_chunks
    from mmgcs.runtime.checks import CARD_KEY, Check, record_samples, verify, write_carded_bundle
    from mmgcs.runtime.picture import explanation_page, read_poster, to_png

__all__ = [
    "BATCH",
    "BATCHES",
    "CARD_KEY",
    "DETECTOR_KEY",
    "MAX_PASSES",
    "STRANGE",
    "Check",
    "Classifier",
    "Explanation",
    "Features",
    "PictureDetector",
    "PreparedFilm",
    "expected_f1",
    "explain",
    "explanation_page",
    "load",
    "log_odds",
    "picture_statistics",
    "predict_chunks",
    "read_poster",
    "record_samples",
    "sigmoid",
    "to_png",
    "verify",
    "without",
    "write_carded_bundle",
]


# A single prediction needs neither the sample's tables nor Pillow.
__getattr__ = lazy_exports(
    __name__,
    {
        "batch": ["predict_chunks"],
        "checks": ["CARD_KEY", "Check", "record_samples", "verify", "write_carded_bundle"],
        "picture": ["read_poster", "explanation_page", "to_png"],
    },
)

"""Write trained modules as ONNX graphs, quantize and shrink graphs, and join bundles.

Only writing a trained module's graph needs torch, so each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgcs.export.int8 import halve_weights, quantize_blocks, quantize_dynamic, quantize_static
    from mmgcs.export.join import Member, join_bundles
    from mmgcs.export.onnx import export_encoder, export_fusion, open_stem
    from mmgcs.export.shrink import has_words, is_int8, prune_vocabulary, to_float

_MODULES = {
    **dict.fromkeys(["halve_weights", "quantize_blocks", "quantize_dynamic", "quantize_static"], "int8"),
    **dict.fromkeys(["Member", "join_bundles"], "join"),
    **dict.fromkeys(["export_encoder", "export_fusion", "open_stem"], "onnx"),
    **dict.fromkeys(["has_words", "is_int8", "prune_vocabulary", "to_float"], "shrink"),
}

__all__ = [
    "Member",
    "export_encoder",
    "export_fusion",
    "halve_weights",
    "has_words",
    "is_int8",
    "join_bundles",
    "open_stem",
    "prune_vocabulary",
    "quantize_blocks",
    "quantize_dynamic",
    "quantize_static",
    "to_float",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"mmgcs.export.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

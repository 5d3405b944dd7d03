"""Write trained modules as ONNX graphs, quantize and shrink graphs, and join bundles.

Only writing a trained module's graph needs torch, so each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgcs.export.int8 import halve_weights, quantize_blocks, quantize_dynamic, quantize_static
    from mmgcs.export.join import Member, join_bundles
    from mmgcs.export.onnx import export_encoder, export_fusion
    from mmgcs.export.shrink import is_int8, prune_vocabulary, to_float, word_tables

_MODULES = {
    "int8": ("halve_weights", "quantize_blocks", "quantize_dynamic", "quantize_static"),
    "join": ("Member", "join_bundles"),
    "onnx": ("export_encoder", "export_fusion"),
    "shrink": ("is_int8", "prune_vocabulary", "to_float", "word_tables"),
}

__all__ = [
    "Member",
    "export_encoder",
    "export_fusion",
    "halve_weights",
    "is_int8",
    "join_bundles",
    "prune_vocabulary",
    "quantize_blocks",
    "quantize_dynamic",
    "quantize_static",
    "to_float",
    "word_tables",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"mmgcs.export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

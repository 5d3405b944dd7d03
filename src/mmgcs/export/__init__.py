"""From trained modules to the graphs of a bundle, and from bundles to others.

Only writing a trained module's graph needs torch, so each name is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgcs.export.ensemble import Member, join_bundles
    from mmgcs.export.onnx import export_encoder, export_fusion
    from mmgcs.export.quantize import quantize_blocks, quantize_dynamic, quantize_static

_PLACES = {
    "Member": "ensemble",
    "export_encoder": "onnx",
    "export_fusion": "onnx",
    "join_bundles": "ensemble",
    "quantize_blocks": "quantize",
    "quantize_dynamic": "quantize",
    "quantize_static": "quantize",
}

__all__ = [
    "Member",
    "export_encoder",
    "export_fusion",
    "join_bundles",
    "quantize_blocks",
    "quantize_dynamic",
    "quantize_static",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mmgcs.export.{_PLACES[name]}"), name)

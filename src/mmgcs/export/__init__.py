"""Write trained modules as ONNX graphs, quantize and shrink graphs, and join bundles.

Only writing a trained module's graph needs torch, so each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports

if TYPE_CHECKING:
    from mmgcs.export.int8 import halve_weights, quantize_blocks, quantize_dynamic, quantize_static
    from mmgcs.export.join import join_bundles
    from mmgcs.export.onnx import export_encoder, export_fusion, open_stem
    from mmgcs.export.shrink import has_words, is_int8, prune_vocabulary, to_float

__all__ = [
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


__getattr__ = lazy_exports(
    __name__,
    {
        "int8": ["halve_weights", "quantize_blocks", "quantize_dynamic", "quantize_static"],
        "join": ["join_bundles"],
        "onnx": ["export_encoder", "export_fusion", "open_stem"],
        "shrink": ["has_words", "is_int8", "prune_vocabulary", "to_float"],
    },
)

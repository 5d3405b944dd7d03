"""Write trained modules as ONNX graphs, quantize and shrink graphs, and join bundles."""

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

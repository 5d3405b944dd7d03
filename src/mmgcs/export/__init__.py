"""From trained modules to the graphs of a bundle."""

from mmgcs.export.onnx import export_encoder, export_fusion
from mmgcs.export.quantize import quantize_dynamic, quantize_static

__all__ = ["export_encoder", "export_fusion", "quantize_dynamic", "quantize_static"]

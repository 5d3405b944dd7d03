"""The models, one technique a file, found by the name that recipes use."""

from mmgcs.models import efficientnet_lite, gated_fusion, linear_fusion, transformer
from mmgcs.models.base import ENCODERS, FUSIONS, Encoder, Fusion, SourceHead, linear_schedule_groups

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "Encoder",
    "Fusion",
    "SourceHead",
    "efficientnet_lite",
    "gated_fusion",
    "linear_fusion",
    "linear_schedule_groups",
    "transformer",
]

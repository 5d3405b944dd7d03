"""The models, one technique a file, found by the name that recipes use."""

from mmgcs.models import bilstm_attention, efficientnet_lite, gated_fusion, linear_fusion, resnet18, transformer
from mmgcs.models.base import ENCODERS, FUSIONS, Encoder, Fusion, SourceHead, linear_schedule_groups
from mmgcs.models.members import MemberEncoder, join_heads
from mmgcs.models.token_bag import TokenBagEncoder

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "Encoder",
    "Fusion",
    "MemberEncoder",
    "SourceHead",
    "TokenBagEncoder",
    "bilstm_attention",
    "efficientnet_lite",
    "gated_fusion",
    "join_heads",
    "linear_fusion",
    "linear_schedule_groups",
    "resnet18",
    "transformer",
]

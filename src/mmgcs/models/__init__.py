"""The models, one technique a file, found by the name that recipes use: every file here registers itself."""

from mmgcs.models.base import ENCODERS, FUSIONS, Encoder, Fusion, SourceHead, linear_schedule_groups
from mmgcs.models.members import MemberEncoder, join_heads
from mmgcs.models.token_bag import TokenBagEncoder
from mmgcs.registry import import_modules

import_modules(__name__)

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "Encoder",
    "Fusion",
    "MemberEncoder",
    "SourceHead",
    "TokenBagEncoder",
    "join_heads",
    "linear_schedule_groups",
]

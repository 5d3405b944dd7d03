"""The models, one file per technique, registered under the names that recipes use.

Other packages add encoders through the entry point group `mmgcs.encoders`: an entry point's name is the name in
recipes, and its value is the class.
"""

from mmgcs.models.base import (
    ENCODERS,
    FUSIONS,
    Encoder,
    PixelEncoder,
    SourceHead,
    TokenEncoder,
    linear_schedule_groups,
)
from mmgcs.models.gated_fusion import GatedFusion
from mmgcs.models.token_bag import TokenBagEncoder
from mmgcs.models.transformer import resolve_source
from mmgcs.registry import import_modules

import_modules(__name__)
ENCODERS.register_plugins("mmgcs.encoders")

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "Encoder",
    "GatedFusion",
    "PixelEncoder",
    "SourceHead",
    "TokenBagEncoder",
    "TokenEncoder",
    "linear_schedule_groups",
    "resolve_source",
]

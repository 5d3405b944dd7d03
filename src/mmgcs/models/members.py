"""Several encoders of one kind as one: their features side by side, so that one linear head averages their logits.

An ensemble of networks trained from different seeds (Lakshminarayanan et al. 2017, "Deep Ensembles"). If they share a
frozen stem, it is computed and stored once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmgcs.models.base import Encoder, WrappedEncoder


class MemberEncoder(WrappedEncoder):
    """Trained encoders of one recipe, run one after the other.

    Args:
        members: the encoders, of the same kind and settings. If their stem is frozen it is the same in all, and the
            first one's is used.
    """

    def __init__(self, members: Sequence[Encoder]) -> None:
        super().__init__(members[0])
        self.members = nn.ModuleList(members)
        self.width = members[0].width * len(members)

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the first member's stem."""
        return self._inner.stem(inputs)

    def forward(self, *values: Tensor) -> Tensor:
        """Turn the collated inputs, in the order of `example`, into features (B, width)."""
        inputs = dict(zip(self._inner.example(1), values, strict=True))
        shared = self.stem(inputs) if self._inner.stem_is_frozen() else None
        parts = []
        for member in self.members:
            assert isinstance(member, Encoder)
            parts.append(member.tail(member.stem(inputs) if shared is None else shared, inputs))
        return torch.cat(parts, 1)


def join_heads(heads: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the head, weight (genres, Σ width) and bias (genres,), that gives the mean of the members' logits."""
    weight = torch.cat([weight for weight, _ in heads], 1) / len(heads)
    return weight, torch.stack([bias for _, bias in heads]).mean(0)

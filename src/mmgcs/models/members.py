"""Several encoders of one kind as one: their features side by side, so that one linear head averages their answers.

An ensemble of networks trained from different seeds (Lakshminarayanan et al. 2017, "Deep Ensembles"). Where they share
a frozen lower half, it is computed, and stored, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmgcs.models.base import Encoder
from mmgcs.preprocess import Preprocessor


class MemberEncoder(nn.Module):
    """Trained encoders of one recipe, run one after the other.

    Args:
        members: the encoders, of the same kind and settings. If their first half is frozen it is the same in all, and
            the first one's is used.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.input, self.kind = self._first.input, self._first.kind
        self.width = self._first.width * len(members)

    @property
    def _first(self) -> Encoder:
        first: Encoder = self.members[0]  # type: ignore[assignment]
        return first

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The first member's first half."""
        return self._first.stem(inputs)

    def forward(self, *values: Tensor) -> Tensor:
        """The collated inputs, in the order of `example`, to features (B, width)."""
        inputs = dict(zip(self._first.example(1), values, strict=True))
        members: Sequence[Encoder] = list(self.members)  # type: ignore[arg-type]
        shared = self.stem(inputs) if self._first.stem_is_frozen() else None
        parts = [member.tail(member.stem(inputs) if shared is None else shared, inputs) for member in members]
        return torch.cat(parts, 1)

    def preprocessor(self) -> Preprocessor:
        """The first member's."""
        return self._first.preprocessor()

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """The first member's."""
        return self._first.save_assets(folder)

    def example(self, batch: int) -> dict[str, Tensor]:
        """The first member's."""
        return self._first.example(batch)

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The first member's."""
        return self._first.dynamic_axes()


def join_heads(heads: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The head, weight (genres, Σ width) and bias (genres,), whose answer is the mean of the members' logits."""
    weight = torch.cat([weight for weight, _ in heads], 1) / len(heads)
    return weight, torch.stack([bias for _, bias in heads]).mean(0)

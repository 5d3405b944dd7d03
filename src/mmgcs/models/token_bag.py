"""A linear model of the plot's tokens beside a deep encoder (Cheng et al. 2016, "Wide & Deep Learning").

The deep encoder reads what a plot means; which words stand in it at all says something of its own, and a linear model
of TF-IDF weights learns that in seconds. Both read the same tokens, so one graph holds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmgcs.models.base import Encoder
from mmgcs.preprocess import Preprocessor


class TokenBagEncoder(nn.Module):
    """A trained encoder of tokens whose features have the logits of a linear model of those tokens appended.

    Args:
        encoder: the deep encoder; its inputs are `input_ids` and `attention_mask`.
        idf: inverse document frequency of each token (vocabulary,), 0 for tokens that do not count.
        weight: the linear model's weights (vocabulary, genres).
        bias: its biases (genres,).
    """

    def __init__(self, encoder: nn.Module, idf: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.deep = encoder
        typed: Encoder = encoder  # type: ignore[assignment]
        self._encoder = typed
        self.input, self.kind = typed.input, typed.kind
        self.width = typed.width + len(bias)
        # One look-up gives a token's part of every logit and, last, its part of the vector's squared length.
        table = torch.cat([idf[:, None] * weight, idf[:, None] ** 2], 1)
        self.table = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]  # frozen
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask (B, T) to features (B, width)."""
        deep = self.deep(input_ids, attention_mask)  # (B, W)
        sums = (self.table(input_ids) * attention_mask.unsqueeze(-1).to(deep.dtype)).sum(1)  # (B, G + 1)
        length = sums[:, -1:].clamp_min(1e-9).sqrt()
        return torch.cat([deep, sums[:, :-1] / length + self.bias], 1)

    def preprocessor(self) -> Preprocessor:
        """The deep encoder's."""
        return self._encoder.preprocessor()

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """The deep encoder's."""
        return self._encoder.save_assets(folder)

    def example(self, batch: int) -> dict[str, Tensor]:
        """The deep encoder's."""
        return self._encoder.example(batch)

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The deep encoder's."""
        return self._encoder.dynamic_axes()

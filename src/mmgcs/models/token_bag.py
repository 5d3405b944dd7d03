"""A plot encoder combined with a linear model of TF-IDF token weights, in one graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgcs.models.base import TokenEncoder


class TokenBagEncoder(TokenEncoder):
    """A trained plot encoder with the logits of a linear model of the tokens appended to its features.

    Args:
        encoder: the trained encoder.
        idf: inverse document frequency of each token (vocabulary,), 0 for tokens that are ignored.
        weight: the linear model's weights (vocabulary, genres).
        bias: its biases (genres,).
    """

    def __init__(self, encoder: TokenEncoder, idf: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__(
            encoder.tokenizer, max_tokens=encoder.max_tokens, pad_id=encoder.pad_id, use_title=encoder.use_title
        )
        self.deep = encoder
        self.width = encoder.width + len(bias)
        # One look-up gives a token's contribution to each logit and, last, to the squared length of the TF-IDF vector.
        table = torch.cat([idf[:, None] * weight, idf[:, None] ** 2], 1)
        self.table = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]  # frozen
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn token ids and mask (B, T) into features (B, width)."""
        deep = self.deep(input_ids, attention_mask)  # (B, W)
        if isinstance(deep, tuple):
            deep = deep[0]
        sums = (self.table(input_ids) * attention_mask.unsqueeze(-1).to(deep.dtype)).sum(1)  # (B, G + 1)
        length = sums[:, -1:].clamp_min(1e-9).sqrt()
        return torch.cat([deep, sums[:, :-1] / length + self.bias], 1)

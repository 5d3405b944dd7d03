"""Base classes of encoders and fusions, and the registries that recipes name them in.

A new encoder subclasses `TokenEncoder` or `PixelEncoder` and defines `__init__` and `forward`; everything else has a
default. See docs/how-to/add-a-model-in-one-file.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from mmgcs.errors import UsageError
from mmgcs.preprocess import PlotTokens, PosterPixels, Preprocessor
from mmgcs.registry import Registry

ParameterGroups = list[dict[str, Any]]


class Encoder(nn.Module):
    """Turn one prepared input into features.

    An encoder may be split into `stem`, whose output mixup mixes, and `tail`. By default the stem is empty and the tail
    is the whole encoder. The output of a poster encoder's frozen stem is computed once and cached.

    Attributes:
        input: the part of a film that it reads, "plot" or "poster".
        kind: the name of its preprocessing, which the bundle records.
        width: the number of features.
        outputs: the names of the graph's outputs; "features" is the first.
        matrices: True if matrix products are most of its work, so that bfloat16 makes it faster on a CPU.
    """

    input: Literal["plot", "poster"]
    kind: str
    width: int
    outputs: ClassVar[tuple[str, ...]] = ("features",)
    matrices: ClassVar[bool] = False

    def learn_words(self, texts: Sequence[str]) -> None:
        """Learn a vocabulary from the training films' texts, if the encoder needs one."""

    def preprocessor(self) -> Preprocessor:
        """Return the preprocessing, the same that prediction uses."""
        raise NotImplementedError

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Write the files that preprocessing needs into the bundle's folder. Return the branch's options."""
        raise NotImplementedError

    def example(self, batch: int) -> dict[str, Tensor]:
        """Return inputs of the right shapes, for the ONNX exporter."""
        raise NotImplementedError

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Return the axes of the graph's inputs and outputs that vary."""
        raise NotImplementedError

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the first half, from collated inputs to hidden values; without gradients if it is frozen."""
        return next(iter(inputs.values()))

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the second half, from hidden values to features (B, width)."""
        del hidden
        output = self(*inputs.values())
        features: Tensor = output[0] if isinstance(output, tuple) else output
        return features

    def frozen_share(self) -> float:
        """Return the share of the forward pass that a frozen stem takes, from 0 (not frozen) to 1."""
        return 0.0

    def layers(self) -> Sequence[nn.Module]:
        """Return the parts to train, in order from the input to the head; later ones get a higher learning rate."""
        return list(self.children())

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """Return the optimizer's parameter groups, with a learning rate for each layer."""
        return linear_schedule_groups(self.layers(), lr, layer_decay, weight_decay)


class TokenEncoder(Encoder):
    """An encoder of plots; `forward(input_ids, attention_mask)`, (B, T) int64 each, returns features (B, width).

    Args:
        tokenizer: its tokenizer; None to learn a vocabulary of words from the training plots.
        vocabulary: the largest vocabulary to learn if there is no tokenizer. Id 0 is padding, id 1 an unknown word.
        max_tokens: tokens after which a plot is cut.
        pad_id: the id of padding.
        use_title: read the title before the plot.
    """

    input = "plot"
    kind = "tokens"

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        vocabulary: int = 0,
        max_tokens: int = 200,
        pad_id: int = 0,
        use_title: bool = True,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer or word_tokenizer({})
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self.use_title = use_title

    def learn_words(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary from the training films' texts."""
        if self.vocabulary:
            words = common_words(texts, self.vocabulary - 2)
            self.tokenizer = word_tokenizer({word: index + 2 for index, word in enumerate(words)})

    def preprocessor(self) -> PlotTokens:
        """Return the tokenizer as a preprocessing."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        return PlotTokens(tokenizer, self.max_tokens, pad_id=self.pad_id, use_title=self.use_title)

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer.json. Return the options of the preprocessing."""
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        return {
            "tokenizer": "tokenizer.json",
            "max_tokens": self.max_tokens,
            "pad_id": self.pad_id,
            "use_title": self.use_title,
        }

    def example(self, batch: int) -> dict[str, Tensor]:
        """Return ids and mask (batch, 12), the last of them shorter."""
        mask = torch.ones(batch, 12, dtype=torch.int64)
        mask[-1, 7:] = 0
        return {"input_ids": mask.clone(), "attention_mask": mask}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and tokens vary."""
        names = ("input_ids", "attention_mask", *self.outputs[1:])
        return {name: {0: "batch", 1: "tokens"} for name in names}


class PixelEncoder(Encoder):
    """An encoder of posters; `forward(pixels)`, (B, H, W, 3) uint8, returns features (B, width).

    An encoder that defines `stages` can `freeze` the first of them; `pool` follows the last.

    Args:
        height, width_px: the size that posters are stretched to, in pixels.
        mean, std: of pixel values from 0 to 255, one number or one for each color.
    """

    input = "poster"
    kind = "pixels"

    def __init__(
        self, height: int, width_px: int, mean: float | Sequence[float] = 127.5, std: float | Sequence[float] = 127.5
    ) -> None:
        super().__init__()
        self.size = (height, width_px)
        self.frozen = 0
        self._statistics = {"mean": mean, "std": std}
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def stages(self) -> Sequence[nn.Module]:
        """Return the parts that can be frozen, from the input to the head; none by default."""
        return []

    def pool(self, maps: Tensor) -> Tensor:
        """Turn the last feature map (B, C, h, w) into features (B, width)."""
        return maps.mean((2, 3))

    def freeze(self, count: int) -> None:
        """Freeze the first `count` stages, their BatchNorm statistics included."""
        self.frozen = count
        for stage in self.stages()[:count]:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> PixelEncoder:
        """Set the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for stage in self.stages()[: self.frozen]:
            stage.eval()
        return self

    def normalized(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, H, W, 3) uint8 into (B, 3, H, W) float32 of mean 0 and deviation 1."""
        return (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the feature map (B, C, h, w) after the frozen stages; an encoder without stages has no stem."""
        stages = self.stages()
        if not stages:
            return super().stem(inputs)
        maps = self.normalized(inputs["pixels"])
        for stage in stages[: self.frozen]:
            maps = stage(maps)
        return maps

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the features (B, width) from the feature map."""
        stages = self.stages()
        if not stages:
            return super().tail(hidden, inputs)
        for stage in stages[self.frozen :]:
            hidden = stage(hidden)
        return self.pool(hidden)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, H, W, 3) uint8 into features (B, width)."""
        inputs = {"pixels": pixels}
        return self.tail(self.stem(inputs), inputs)

    def frozen_share(self) -> float:
        """Return the share of frozen stages, a low estimate: the first ones, with the largest maps, cost most."""
        return self.frozen / max(1, len(self.stages()))

    def preprocessor(self) -> PosterPixels:
        """Return pixels of the encoder's size."""
        return PosterPixels(*self.size)

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Return the options of the preprocessing; posters need no file."""
        del folder
        return {"height": self.size[0], "width": self.size[1], **self._statistics}

    def example(self, batch: int) -> dict[str, Tensor]:
        """Return random pixels."""
        generator = torch.Generator().manual_seed(0)
        return {"pixels": torch.randint(0, 256, (batch, *self.size, 3), dtype=torch.uint8, generator=generator)}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Only the batch varies."""
        return {"pixels": {0: "batch"}}


ENCODERS: Registry[Callable[..., Encoder]] = Registry("encoder")
FUSIONS: Registry[Callable[..., nn.Module]] = Registry("fusion")
"""Modules whose `forward` turns the branches' features, a list of (B, width), and `present` (B, branches) of 0 and 1
into logits (B, genres), whichever branches are present. Their first argument is the branches' heads."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pth or .safetensors file. No code from the file is run.

    Raises:
        UsageError: the file is missing or holds no tensors.
    """
    if not path.is_file():
        raise UsageError(f"poster.encoder.weights: {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        line = str(error).splitlines()[0]
        raise UsageError(f"poster.encoder.weights: {path} holds no weights ({line})") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UsageError(f"poster.encoder.weights: {path} is not a state_dict; save that of the model alone")
    return loaded


class SourceHead(nn.Module):
    """A linear head with a correction for each label source.

    Catalogues disagree about genres. Each source has a small correction to one common head, so the encoder learns from
    all labels while the predictions follow one source (multi-task learning with shared parameters, as in Evgeniou &
    Pontil 2004, "Regularized multi-task learning").
    """

    def __init__(self, width: int, genres: int, sources: int, target: int) -> None:
        super().__init__()
        self.common = nn.Linear(width, genres)
        self.weight = nn.Parameter(torch.zeros(sources, genres, width))
        self.bias = nn.Parameter(torch.zeros(sources, genres))
        self.target = target
        nn.init.zeros_(self.common.weight)

    def forward(self, features: Tensor, source: Tensor) -> Tensor:
        """Turn features (B, width) and source (B,) int64 into logits (B, genres)."""
        own = torch.einsum("bw,bgw->bg", features, self.weight[source])  # (B, genres)
        logits: Tensor = self.common(features) + own + self.bias[source]
        return logits

    def target_linear(self) -> tuple[Tensor, Tensor]:
        """Return the weight (genres, width) and bias (genres,) of a linear layer that predicts as the target source."""
        weight = self.common.weight + self.weight[self.target]
        bias = self.common.bias + self.bias[self.target]
        return weight.detach().clone(), bias.detach().clone()


def linear_schedule_groups(
    depths: Sequence[nn.Module], lr: float, layer_decay: float, weight_decay: float
) -> ParameterGroups:
    """Return parameter groups whose learning rate falls by `layer_decay` per module, counted from the last.

    Layer-wise learning rate decay of Howard & Ruder 2018 and Clark et al. 2020 (ELECTRA). Biases and norms, which
    have one dimension, have no weight decay.
    """
    groups: ParameterGroups = []
    for distance, module in enumerate(reversed(list(depths))):
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for decayed in (True, False):
            chosen = [parameter for parameter in trained if (parameter.ndim > 1) is decayed]
            if chosen:
                decay = weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": lr * layer_decay**distance, "weight_decay": decay})
    return groups


def word_tokenizer(words: Mapping[str, int]) -> Tokenizer:
    """Return a tokenizer of lower-case words without accents, and punctuation; padding is 0, unknown words are 1."""
    unknown = "[UNK]"
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, unknown: 1, **words}, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def common_words(texts: Sequence[str], count: int) -> list[str]:
    """Return the `count` most common words of the texts, most common first, alphabetically if equally common."""
    split = word_tokenizer({})
    assert split.normalizer is not None and split.pre_tokenizer is not None
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(text)))
    return sorted(counts, key=lambda word: (-counts[word], word))[:count]

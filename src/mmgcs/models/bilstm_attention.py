"""Plots through a bidirectional LSTM with additive attention over word vectors.

LSTM of Hochreiter & Schmidhuber 1997, read in both directions (Schuster & Paliwal 1997); attention of Bahdanau et al.
2015, with which a classifier pools its states (Yang et al. 2016); vectors of Pennington et al. 2014 (GloVe).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models.base import ENCODERS, ParameterGroups, linear_schedule_groups
from mmgcs.models.word_vectors import vector_width, vectors_of
from mmgcs.preprocess import PlotTokens

PAD, UNKNOWN = "[PAD]", "[UNK]"


@ENCODERS.register("bilstm_attention")
class BiLstmAttention(nn.Module):
    """Own vocabulary, word vectors, a bidirectional LSTM over packed sequences, additive attention.

    Its graph has a second output, `attention` (batch, tokens), which sums to 1 over a plot's words.

    Args:
        glove: a file of vectors in GloVe's text format (.txt, .txt.gz); None starts from random vectors.
        tune: train the vectors too; without it they stay as the file has them.
        vocabulary: words kept, the commonest of the training plots, padding and unknown not counted.
        dimension: width of random vectors; a file has its own.
        hidden: units of the LSTM in each direction.
        max_tokens: words after which a plot is cut.
        dropout: dropout on the vectors and on the features.
        use_title: read the title before the plot.
    """

    input = "plot"
    kind = "tokens"
    matrices = True
    outputs = ("features", "attention")

    def __init__(
        self,
        glove: str | None = None,
        tune: bool = False,
        vocabulary: int = 20_000,
        dimension: int = 100,
        hidden: int = 128,
        max_tokens: int = 200,
        dropout: float = 0.3,
        use_title: bool = False,
    ) -> None:
        super().__init__()
        if glove is None and not tune:
            raise UsageError("encoder bilstm_attention: random vectors must be trained; give `glove` or `tune: true`")
        self.glove = glove
        self.tune = tune
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.use_title = use_title
        self.width = 2 * hidden
        self.dimension = dimension if glove is None else vector_width(Path(glove))
        self._tokenizer = word_tokenizer({})
        self.embedding = nn.Embedding(2, self.dimension, padding_idx=0)
        self.lstm = nn.LSTM(self.dimension, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def fit(self, texts: Sequence[str]) -> None:
        """Build the vocabulary from the training texts, and the vectors of its words.

        A word that the file of vectors lacks begins as nought where vectors are frozen, so that it says nothing, and
        as a small random vector where they are trained.
        """
        split = word_tokenizer({})
        counts: Counter[str] = Counter()
        for text in texts:
            assert split.normalizer is not None and split.pre_tokenizer is not None
            counts.update(
                word for word, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(text))
            )
        # Alphabetical where counts are equal: the same films give the same vocabulary in any order.
        words = sorted(counts, key=lambda word: (-counts[word], word))[: self.vocabulary]
        self._tokenizer = word_tokenizer({word: index + 2 for index, word in enumerate(words)})
        weight = (
            torch.randn(len(words) + 2, self.dimension) * 0.1
            if self.tune
            else torch.zeros(len(words) + 2, self.dimension)
        )
        weight[0] = 0.0
        if self.glove is not None:
            vectors, found = vectors_of(Path(self.glove), words)
            if not found.any():
                raise MmgcsError(f"{self.glove} has none of the plots' words; give vectors of the plots' language")
            weight[2:][torch.from_numpy(found)] = torch.from_numpy(vectors[found])
        self.embedding = nn.Embedding(len(weight), self.dimension, padding_idx=0)
        self.embedding.load_state_dict({"weight": weight})
        self.embedding.requires_grad_(self.tune)

    def preprocessor(self) -> PlotTokens:
        """Word numbers of the own vocabulary."""
        return PlotTokens(
            Tokenizer.from_str(self._tokenizer.to_str()), self.max_tokens, pad_id=0, use_title=self.use_title
        )

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Word numbers (B, T) to vectors (B, T, dimension)."""
        vectors: Tensor = self.embedding(inputs["input_ids"])
        return vectors

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Vectors (B, T, dimension) to features (B, 2 · hidden)."""
        return self.pool(hidden, inputs["attention_mask"])[0]

    def pool(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, T, dimension) and mask (B, T) to features (B, 2 · hidden) and attention (B, T)."""
        vectors = self.dropout(vectors)
        lengths = mask.sum(1)  # (B,)
        # Only cuDNN is fast on packed sequences: on a CPU the same states come four times sooner from whole batches,
        # and batches of films of one length have little padding.
        packed = vectors.is_cuda and not torch.onnx.is_in_onnx_export()
        states = self._states_packed(vectors, lengths) if packed else self._states_turned(vectors, lengths)
        scores = self.score(torch.tanh(self.attend(states))).squeeze(-1)  # (B, T)
        scores = scores.masked_fill(mask == 0, -1e9)
        attention = torch.softmax(scores, 1)
        features: Tensor = self.dropout((attention.unsqueeze(-1) * states).sum(1))  # (B, 2H)
        return features, attention

    def _states_packed(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = self.lstm(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=vectors.shape[1])
        return padded  # (B, T, 2H)

    def _states_turned(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """What `_states_packed` computes, without packing, which the exporter cannot express for any batch.

        Read forwards, padding comes after the words and cannot change their states. To read backwards, each plot is
        turned around within its own length, so that padding comes last there too.
        """
        steps = torch.arange(vectors.shape[1], device=vectors.device).unsqueeze(0)  # (1, T)
        inside = steps < lengths.unsqueeze(1)  # (B, T)
        turned = torch.where(inside, lengths.unsqueeze(1) - 1 - steps, steps)  # (B, T)
        # Rows of one table (B · T, width) are moved faster, gradients too, than the numbers of a gather are.
        films, length = vectors.shape[:2]
        rows = (turned + length * torch.arange(films, device=vectors.device).unsqueeze(1)).reshape(-1)  # (B · T,)
        forwards = self._one_way(vectors, "")
        around = vectors.reshape(-1, self.dimension).index_select(0, rows).reshape(films, length, self.dimension)
        backwards = self._one_way(around, "_reverse")
        half = self.width // 2
        back = backwards.reshape(-1, half).index_select(0, rows).reshape(films, length, half)
        return torch.cat([forwards, back], -1)

    def _one_way(self, vectors: Tensor, direction: str) -> Tensor:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [getattr(self.lstm, name + direction) for name in names]
        start = vectors.new_zeros(1, vectors.shape[0], self.width // 2)
        # With biases, one layer, no dropout, training or not, one direction, batch first.
        states: Tensor = torch.lstm(vectors, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]
        return states

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Word numbers and mask (B, T) to features (B, 2 · hidden) and attention (B, T)."""
        return self.pool(self.embedding(input_ids), attention_mask)

    def stem_is_frozen(self) -> bool:
        """Never: looking vectors up costs less than reading a cache of them."""
        return False

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """Vectors (where they are trained), LSTM, attention."""
        attention = nn.ModuleList([self.attend, self.score])
        return linear_schedule_groups([self.embedding, self.lstm, attention], lr, layer_decay, weight_decay)

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer.json; returns the options of the preprocessing."""
        self._tokenizer.save(str(folder / "tokenizer.json"))
        return {"tokenizer": "tokenizer.json", "max_tokens": self.max_tokens, "pad_id": 0, "use_title": self.use_title}

    def example(self, batch: int) -> dict[str, Tensor]:
        """Two-dimensional ids and mask, with lengths that differ."""
        ids = torch.ones(batch, 12, dtype=torch.int64)
        mask = torch.ones_like(ids)
        mask[-1, 7:] = 0
        return {"input_ids": ids * mask, "attention_mask": mask}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and tokens vary."""
        return {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask", "attention")}


def word_tokenizer(words: Mapping[str, int]) -> Tokenizer:
    """A tokenizer of lower-case words without accents and of punctuation, padding 0 and unknown 1."""
    tokenizer = Tokenizer(models.WordLevel({PAD: 0, UNKNOWN: 1, **words}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer

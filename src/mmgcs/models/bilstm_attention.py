"""Encode plots with a bidirectional LSTM and additive attention over word vectors.

LSTM: Hochreiter & Schmidhuber 1997, in both directions: Schuster & Paliwal 1997; attention: Bahdanau et al. 2015, for
pooling: Yang et al. 2016; word vectors: Pennington et al. 2014 (GloVe).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models.base import ENCODERS, TokenEncoder, common_words, word_tokenizer
from mmgcs.word_vectors import vector_width, vectors_of


@ENCODERS.register("bilstm_attention")
class BiLstmAttention(TokenEncoder):
    """A bidirectional LSTM with additive attention over word vectors, with its own vocabulary.

    The graph has a second output, `attention` (batch, tokens), which sums to 1 over a plot's words.

    Args:
        glove: a file of vectors in GloVe's text format (.txt, .txt.gz); None starts from random vectors.
        tune: train the vectors too.
        vocabulary: the number of words to keep, the most common in the training plots.
        dimension: width of random vectors; vectors from a file have their own.
        hidden: units of the LSTM in each direction.
        max_tokens: words after which a plot is cut.
        dropout: dropout on the vectors and on the features.
        use_title: read the title before the plot.
    """

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
        super().__init__(vocabulary=vocabulary, max_tokens=max_tokens, use_title=use_title)
        if glove is None and not tune:
            raise UsageError("encoder bilstm_attention: random vectors must be trained; give `glove` or `tune: true`")
        self.glove = glove
        self.tune = tune
        self.width = 2 * hidden
        self.dimension = dimension if glove is None else vector_width(Path(glove))
        self.embedding = nn.Embedding(2, self.dimension, padding_idx=0)
        self.lstm = nn.LSTM(self.dimension, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def learn_words(self, texts: Sequence[str]) -> None:
        """Build the vocabulary from the training texts, and the vectors of its words.

        A word without a vector in the file gets zeros if vectors are frozen, so that it has no effect, and otherwise a
        small random vector.
        """
        words = common_words(texts, self.vocabulary)
        self.tokenizer = word_tokenizer({word: index + 2 for index, word in enumerate(words)})
        weight = (torch.randn if self.tune else torch.zeros)(len(words) + 2, self.dimension) * 0.1
        weight[0] = 0.0
        if self.glove is not None:
            vectors, found = vectors_of(Path(self.glove), words)
            if not found.any():
                raise MmgcsError(f"{self.glove} has none of the plots' words; give vectors of the plots' language")
            weight[2:][torch.from_numpy(found)] = torch.from_numpy(vectors[found])
        self.embedding = nn.Embedding(len(weight), self.dimension, padding_idx=0)
        self.embedding.load_state_dict({"weight": weight})
        self.embedding.requires_grad_(self.tune)

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Turn word ids (B, T) into vectors (B, T, dimension)."""
        vectors: Tensor = self.embedding(inputs["input_ids"])
        return vectors

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Turn vectors (B, T, dimension) into features (B, 2 · hidden)."""
        return self.pool(hidden, inputs["attention_mask"])[0]

    def pool(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn vectors (B, T, dimension) and mask (B, T) into features (B, 2 · hidden) and attention (B, T)."""
        vectors = self.dropout(vectors)
        states = self._states(vectors, mask.sum(1))
        scores = self.score(torch.tanh(self.attend(states))).squeeze(-1)  # (B, T)
        scores = scores.masked_fill(mask == 0, -1e9)
        attention = torch.softmax(scores, 1)
        features: Tensor = self.dropout((attention.unsqueeze(-1) * states).sum(1))  # (B, 2H)
        return features, attention

    def _states(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (B, T, 2 · hidden) that packed sequences would give.

        Packed sequences are four times slower on a CPU and cannot be exported for a variable batch size. Forwards,
        padding comes after the words and does not change their states. Backwards, each plot is reversed within its own
        length, so that padding comes last there too.
        """
        steps = torch.arange(vectors.shape[1], device=vectors.device).unsqueeze(0)  # (1, T)
        inside = steps < lengths.unsqueeze(1)  # (B, T)
        turned = torch.where(inside, lengths.unsqueeze(1) - 1 - steps, steps)  # (B, T)
        # Selecting rows of one table (B · T, width) is faster than a gather, for gradients too.
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
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        states: Tensor = torch.lstm(vectors, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]
        return states

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn word ids and mask (B, T) into features (B, 2 · hidden) and attention (B, T)."""
        return self.pool(self.embedding(input_ids), attention_mask)

    def layers(self) -> Sequence[nn.Module]:
        """Return the vectors (if they are trained), the LSTM and the attention."""
        return [self.embedding, self.lstm, nn.ModuleList([self.attend, self.score])]

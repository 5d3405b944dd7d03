"""Fit the linear model of tokens that is added to a trained encoder of plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from mmgcs.film import Film
from mmgcs.models import Encoder, TokenBagEncoder
from mmgcs.training.data import Labelled
from mmgcs.training.module import macro_average_precision

SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)
"""Weights of the linear model's logits that are tried; the best on `valid` is used."""

LEAST_FILMS = 3
"""Films that must contain a token for it to count."""

Head = tuple[Tensor, Tensor]


def add_bag(
    encoder: Encoder,
    head: Head,
    data: Labelled,
    rows: NDArray[np.int64],
    valid: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> tuple[Encoder, Head, float, float]:
    """Add a linear model of the tokens to a trained encoder.

    Args:
        encoder: the trained encoder of tokens.
        head: its head's weight (genres, width) and bias.
        data: the films.
        rows: those to fit on.
        valid: those to choose the share on.
        weights: the weight of each film of `rows`.

    Returns:
        The encoder with the bag, its head, the share of the bag, and the macro average precision on `valid`.
    """
    preprocessor = encoder.preprocessor()

    def tokens(films: Sequence[Film]) -> list[NDArray[Any]]:
        return [item.value for item in preprocessor.prepare(films)]

    train = tokens([data.films[row] for row in rows])
    vocabulary = 1 + max(int(ids.max()) for ids in train)
    counts = _counts(train, vocabulary)
    found = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.where(found >= LEAST_FILMS, np.log((1 + len(rows)) / (1 + found)) + 1.0, 0.0)
    vectors = _normalised(counts, idf)
    table = np.zeros((vocabulary, len(data.genres)), dtype=np.float32)
    bias = np.zeros(len(data.genres), dtype=np.float32)
    for genre in range(len(data.genres)):
        model = LogisticRegression(C=4.0, solver="liblinear")
        known = data.known[rows, genre]
        model.fit(vectors[known], data.truth[rows, genre][known], sample_weight=weights[known])
        table[:, genre], bias[genre] = model.coef_[0], model.intercept_[0]
    held = _normalised(
        _counts([ids[ids < vocabulary] for ids in tokens([data.films[r] for r in valid])], vocabulary), idf
    )
    wide = held @ table + bias
    deep = _deep_logits(encoder, head, [data.films[row] for row in valid])
    scores = [macro_average_precision(data.truth[valid], deep + share * wide, data.known[valid]) for share in SHARES]
    share = SHARES[int(np.argmax(scores))]
    # Tokens that no training plot has get rows of zeros, so that every id of the tokenizer can be looked up.
    size = _vocabulary_size(encoder, vocabulary)
    padded = np.zeros((size, len(bias)), dtype=np.float32)
    padded[:vocabulary] = table
    full_idf = np.zeros(size, dtype=np.float32)
    full_idf[:vocabulary] = idf
    module = TokenBagEncoder(encoder, torch.from_numpy(full_idf), torch.from_numpy(padded), torch.from_numpy(bias))
    weight = torch.cat([head[0], share * torch.eye(len(bias))], 1)
    module.eval()
    return module, (weight, head[1]), share, max(scores)


def _counts(ids: Sequence[NDArray[Any]], vocabulary: int) -> csr_matrix:
    rows = np.repeat(np.arange(len(ids)), [len(item) for item in ids])
    columns = np.concatenate(ids)
    return csr_matrix((np.ones(len(columns), dtype=np.float32), (rows, columns)), shape=(len(ids), vocabulary))


def _normalised(counts: csr_matrix, idf: NDArray[Any]) -> csr_matrix:
    # The length counts every occurrence of a token by itself, which is what the graph can sum in one pass.
    length = np.sqrt(np.maximum(counts @ idf**2, 1e-9))
    return csr_matrix(diags(1.0 / length) @ counts @ diags(idf))


def _vocabulary_size(encoder: nn.Module, least: int) -> int:
    sizes = [module.num_embeddings for module in encoder.modules() if isinstance(module, nn.Embedding)]
    return max([least, *sizes])


@torch.no_grad()
def _deep_logits(encoder: Encoder, head: Head, films: Sequence[Film]) -> NDArray[np.float32]:
    preprocessor = encoder.preprocessor()
    prepared = preprocessor.prepare(films)
    logits = np.zeros((len(films), len(head[1])), dtype=np.float32)
    order = sorted(range(len(films)), key=lambda row: prepared[row].length)
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        inputs = preprocessor.collate([prepared[row] for row in part])
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        features = encoder.tail(encoder.stem(tensors), tensors)
        logits[part] = (features @ head[0].T + head[1]).numpy()
    return logits

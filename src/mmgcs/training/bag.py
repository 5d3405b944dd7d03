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

from mmgcs.evaluation import macro_average_precision
from mmgcs.models import Encoder, TokenBagEncoder, TokenEncoder
from mmgcs.preprocess import Prepared
from mmgcs.training.labelled import Labelled

SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)
"""Weights to try for the linear model's logits; the best on `valid` is used."""

Head = tuple[Tensor, Tensor]


def add_bag(
    encoder: TokenEncoder,
    head: Head,
    data: Labelled,
    rows: NDArray[np.int64],
    valid: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> tuple[TokenBagEncoder, Head, float, float]:
    """Add a linear model of the tokens to a trained encoder and its head.

    The model is fitted on the films `rows` with their `weights`, and its share is chosen on the films `valid`.

    Returns:
        The encoder with the bag, its head, the share of the bag, and the macro average precision on `valid`.
    """
    preprocessor = encoder.preprocessor()
    train, held = (preprocessor.prepare([data.films[row] for row in some]) for some in (rows, valid))
    # Every id of the tokenizer can be looked up; tokens that no training plot has get rows of zeros.
    tables = [module.num_embeddings for module in encoder.modules() if isinstance(module, nn.Embedding)]
    size = max([1 + max(int(item.value.max()) for item in train), *tables])
    counts = _counts(train, size)
    found = np.asarray((counts > 0).sum(0)).ravel()
    # Tokens of fewer than three films are ignored.
    idf = np.where(found >= 3, np.log((1 + len(rows)) / (1 + found)) + 1.0, 0.0)
    vectors = _normalised(counts, idf)
    table = np.zeros((size, len(data.genres)), dtype=np.float32)
    bias = np.zeros(len(data.genres), dtype=np.float32)
    for genre in range(len(data.genres)):
        known = data.known[rows, genre]
        there = data.truth[rows, genre][known]
        if there.all() or not there.any():
            continue  # nothing to learn: the encoder's own head decides
        model = LogisticRegression(C=4.0, solver="liblinear")
        model.fit(vectors[known], there, sample_weight=weights[known])
        table[:, genre], bias[genre] = model.coef_[0], model.intercept_[0]
    wide = _normalised(_counts(held, size), idf) @ table + bias
    deep = _logits(encoder, head, held)
    scores = [macro_average_precision(data.truth[valid], deep + share * wide, data.known[valid]) for share in SHARES]
    share = SHARES[int(np.argmax(scores))]
    arrays = (idf.astype(np.float32), table, bias)
    module = TokenBagEncoder(encoder, *(torch.from_numpy(value) for value in arrays)).eval()
    weight = torch.cat([head[0], share * torch.eye(len(bias))], 1)
    return module, (weight, head[1]), share, max(scores)


def _counts(plots: Sequence[Prepared], size: int) -> csr_matrix:
    """Return how often each plot has each token id below `size`."""
    rows = np.repeat(np.arange(len(plots)), [plot.length for plot in plots])
    columns = np.concatenate([plot.value for plot in plots])
    inside = columns < size
    ones = np.ones(int(inside.sum()), dtype=np.float32)
    return csr_matrix((ones, (rows[inside], columns[inside])), shape=(len(plots), size))


def _normalised(counts: csr_matrix, idf: NDArray[Any]) -> csr_matrix:
    # Each occurrence of a token counts separately, so that the graph can sum the length in one pass.
    length = np.sqrt(np.maximum(counts @ idf**2, 1e-9))
    return csr_matrix(diags(1.0 / length) @ counts @ diags(idf))


@torch.no_grad()
def _logits(encoder: Encoder, head: Head, plots: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return the logits (plots, genres) of an encoder and its head."""
    preprocessor = encoder.preprocessor()
    logits = np.zeros((len(plots), len(head[1])), dtype=np.float32)
    order = sorted(range(len(plots)), key=lambda row: plots[row].length)
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        inputs = preprocessor.collate([plots[row] for row in part])
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        features = encoder.tail(encoder.stem(tensors), tensors)
        logits[part] = (features @ head[0].T + head[1]).numpy()
    return logits

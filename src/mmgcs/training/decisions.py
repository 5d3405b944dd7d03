"""Fit what turns logits into predictions: calibration, thresholds, confidence, and detectors of strange inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mmgcs.bundle import Branch, Decision
from mmgcs.evaluation import fit_decision
from mmgcs.runtime import Features
from mmgcs.training.assemble import conditions
from mmgcs.training.fusion import FusionFilms, fused_logits


def fit_decisions(
    fusion: nn.Module, specs: Sequence[Branch], valid: FusionFilms, held: FusionFilms | None, coverage: float
) -> dict[str, Decision]:
    """Fit a decision for each combination of inputs.

    Args:
        fusion: the trained fusion.
        specs: the branches.
        valid: features and labels of the films of `valid`.
        held: those of the films held out for the fusion, if there is one. Only the fusion has seen them; measured by
            halving `valid`, they still improve the decisions.
        coverage: the share of films on which the model should be sure.

    Returns:
        the decisions by combination, such as "plot+poster".
    """
    decisions = {}
    for names in conditions([spec.input for spec in specs]):
        logits, truth = _with_inputs(fusion, specs, names, valid)
        more = None if held is None else _with_inputs(fusion, specs, names, held)
        decisions["+".join(names)] = fit_decision(logits, truth, coverage=coverage, more=more)
    return decisions


def _with_inputs(
    fusion: nn.Module, specs: Sequence[Branch], names: Sequence[str], films: FusionFilms
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return logits and truth of the films that have these inputs, computed from these inputs alone."""
    features: Features = films.features
    having = features.having(specs, names)
    return fused_logits(fusion, features.only(specs, names, having)), films.truth[having]

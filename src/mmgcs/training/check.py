"""Refuses, before any work, a recipe that names what there is not or what cannot go together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mmgcs.errors import UsageError
from mmgcs.models import ENCODERS, FUSIONS
from mmgcs.registry import Registry
from mmgcs.training.augment import PLOT_CHANGES, POSTER_CHANGES
from mmgcs.training.losses import LOSSES
from mmgcs.training.recipe import BranchRecipe, Recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError, by the setting's place, for an unknown name or option or an impossible combination.

    What needs no registry (types, ranges, branches without a fusion) `Recipe` refuses by itself.
    """
    for name, branch in recipe.branches.items():
        _check_branch(name, branch)
    if recipe.fusion is not None:
        _check_options("fusion.model", FUSIONS, recipe.fusion.model.kind, recipe.fusion.model.options, given=1)
        loss = recipe.fusion.training.loss
        _check_options("fusion.training.loss", LOSSES, loss.kind, loss.options, given=1)
    if recipe.precision == "16-mixed" and not torch.cuda.is_available():
        raise UsageError("precision is 16-mixed, which needs a GPU, and there is none; give auto, 32 or bf16-mixed")


def _check_branch(name: str, branch: BranchRecipe) -> None:
    encoder = branch.encoder
    _check_options(f"{name}.encoder", ENCODERS, encoder.kind, encoder.options)
    reads = getattr(ENCODERS[encoder.kind], "input", name)
    if reads != name:
        raise UsageError(f"{name}.encoder.kind: {encoder.kind} reads {reads}s; known for {name}s: {_reading(name)}")
    changes: Registry[Callable[..., Any]] = PLOT_CHANGES if name == "plot" else POSTER_CHANGES
    for index, change in enumerate(branch.augment):
        _check_options(f"{name}.augment.{index}", changes, change.kind, change.options)
    loss = branch.training.loss
    _check_options(f"{name}.training.loss", LOSSES, loss.kind, loss.options, given=1)


def _reading(name: str) -> str:
    return ", ".join(kind for kind in ENCODERS if getattr(ENCODERS[kind], "input", "") == name)


def _check_options(
    place: str, registry: Registry[Callable[..., Any]], kind: str, options: Mapping[str, Any], *, given: int = 0
) -> None:
    """Raise UsageError unless `kind` is registered and takes `options`; its first `given` arguments are not options."""
    if kind not in registry:
        raise UsageError(f"{place}.kind: there is no {registry.what} {kind!r}; known: {', '.join(registry)}")
    parameters = inspect.signature(registry[kind]).parameters
    known: Sequence[str] = list(parameters)[given:]
    for option in options:
        if option not in known:
            what = f"{kind} has {', '.join(known)}" if known else f"{kind} has none"
            raise UsageError(f"{place}.options.{option}: there is no such setting; {what}")
    for option in known:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise UsageError(f"{place}.options.{option} is missing; {kind} needs it")

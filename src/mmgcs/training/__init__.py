"""Train models from recipes, search their settings, and make bundles smaller.

What the rarer commands need is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmgcs.training.recipe import Recipe, find_recipe, read_recipe
from mmgcs.training.run import train

if TYPE_CHECKING:
    from mmgcs.training.compress import export_bundle, table_lines
    from mmgcs.training.estimator import GenreClassifier
    from mmgcs.training.train_all import TrainAllOptions, make_plan, read_recipes, run_plan
    from mmgcs.training.tune import search_settings

_LAZY = {
    **dict.fromkeys(["export_bundle", "table_lines"], "compress"),
    "GenreClassifier": "estimator",
    **dict.fromkeys(["TrainAllOptions", "make_plan", "read_recipes", "run_plan"], "train_all"),
    "search_settings": "tune",
}

__all__ = [
    "GenreClassifier",
    "Recipe",
    "TrainAllOptions",
    "export_bundle",
    "find_recipe",
    "make_plan",
    "read_recipe",
    "read_recipes",
    "run_plan",
    "search_settings",
    "table_lines",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"mmgcs.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'mmgcs.training' has no attribute {name!r}")

"""Train models from recipes, search their settings, and make bundles smaller.

Modules that only some commands need are imported on first use.
"""

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports
from mmgcs.training.recipe import Recipe, find_recipe, read_recipe
from mmgcs.training.run import train

if TYPE_CHECKING:
    from mmgcs.training.card import table_lines
    from mmgcs.training.compress import export_bundle
    from mmgcs.training.estimator import GenreClassifier
    from mmgcs.training.train_all import TrainAllOptions, make_plan, read_recipes, run_plan
    from mmgcs.training.tune import search_settings

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


__getattr__ = lazy_exports(
    __name__,
    {
        "card": ["table_lines"],
        "compress": ["export_bundle"],
        "estimator": ["GenreClassifier"],
        "train_all": ["TrainAllOptions", "make_plan", "read_recipes", "run_plan"],
        "tune": ["search_settings"],
    },
)

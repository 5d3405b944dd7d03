"""Train models from recipes, search their settings, and make bundles smaller."""

from mmgcs.training.card import table_lines
from mmgcs.training.compress import export_bundle
from mmgcs.training.estimator import GenreClassifier
from mmgcs.training.recipe import Recipe, find_recipe, read_recipe
from mmgcs.training.run import train
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

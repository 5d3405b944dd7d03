"""Training: recipes, data, the loop, and what makes a bundle of its result."""

from mmgcs.training.recipe import Recipe, find_recipe, read_recipe
from mmgcs.training.run import train

__all__ = ["Recipe", "find_recipe", "read_recipe", "train"]

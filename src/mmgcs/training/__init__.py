"""Training: recipes, data, the loop, and what makes a bundle of its result."""

from mmgcs.training.recipe import Recipe, read_recipe
from mmgcs.training.run import train

__all__ = ["Recipe", "read_recipe", "train"]

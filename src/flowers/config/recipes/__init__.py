"""Recipes: values of params.yaml that go together, with what was measured of them."""

from flowers.config.recipes.recipe import Measured, Recipe, defaults, load, names, values

__all__ = ["Measured", "Recipe", "defaults", "load", "names", "values"]

"""Recipes: values of params.yaml that go together, with their measured scores."""

from flowers.config.recipes.recipe import Measured, Recipe, defaults, load, names, values

__all__ = ["Measured", "Recipe", "defaults", "load", "names", "values"]

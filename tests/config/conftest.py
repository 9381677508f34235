"""The worlds of tests/helpers/recipe_world.py."""

from recipe_world import checkout, flowers  # noqa: F401

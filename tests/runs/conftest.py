"""The worlds of tests/tracking_world.py."""

from recipe_world import checkout, flowers  # noqa: F401
from tracking_world import closed_port, fresh_database, make_world, published, world  # noqa: F401

"""The name of a run in MLflow: what differs from the shipped parameters, in one line."""

import contextlib
from collections.abc import Callable
from typing import Any

from flowers.common.errors import UserError
from flowers.config import params, recipes
from flowers.config.params import Params

SHIPPED = "as shipped"

_LONGEST = 200  # characters; databases hold 250

# The most telling parameters come first: MLflow's table cuts names after some thirty characters.
_WORDS: dict[str, Callable[[Any], str]] = {
    "head.units": lambda units: f"units {'-'.join(map(str, units))}" if units else "linear",
    "head.initialization": str,
    "model.unfreeze_blocks": lambda blocks: f"{blocks} block{'s' * (blocks != 1)}",
    "head.dropout": lambda rate: f"dropout {rate:.3g}",
    "train.learning_rate": lambda rate: f"lr {rate:.3g}",
    "train.fine_tune_learning_rate": lambda rate: f"fine-tune lr {rate:.3g}",
    "augmentation.size": lambda side: f"view size {side}",
    "augmentation.seed": lambda seed: f"view seed {seed}",
}


def run_name(settings: Params) -> str:
    """What differs from recipes/defaults.yaml, such as 'linear, 3 blocks, lr 0.0003'.

    'as shipped' if nothing differs, 'recipe best' if the values are those of that recipe. Names do not depend on the
    committed params.yaml, which changes. Without the file, every parameter is named.
    """
    values = params.training_values(settings)
    shipped: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # a missing or broken file of recipes/ costs no tracking
        shipped = recipes.defaults()
        if values == shipped:
            return SHIPPED
        for name in recipes.names():
            if values == recipes.values(recipes.load(name)):
                return f"recipe {name}"
    changed = {name: value for name, value in values.items() if name not in shipped or value != shipped[name]}
    ordered = [*(name for name in _WORDS if name in changed), *(name for name in changed if name not in _WORDS)]
    return ", ".join(_WORDS.get(name, _plain(name))(changed[name]) for name in ordered)[:_LONGEST]


def _plain(name: str) -> Callable[[Any], str]:
    """How a parameter is written by its own name: 'label smoothing 0.1', 'mirror', 'no flip'."""
    words = name.partition(".")[2].replace("_", " ")

    def written(value: Any) -> str:
        if isinstance(value, bool):
            return words if value else f"no {words}"
        return f"{words} {value:.3g}" if isinstance(value, float) else f"{words} {value}"

    return written

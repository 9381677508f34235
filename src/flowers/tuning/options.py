"""What the command line adds to params.yaml for a study."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The options of `flowers tune`."""

    n_trials: int
    storage: str | None = None
    study: str | None = None
    new: bool = False
    apply: bool = False
    force: bool = False

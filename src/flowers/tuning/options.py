"""What the command line of `flowers tune` adds to params.yaml."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The options of `flowers tune`; without `storage` and `study` the local journal and the data set's last study."""

    n_trials: int
    storage: str | None = None
    study: str | None = None
    new: bool = False
    apply: bool = False
    force: bool = False

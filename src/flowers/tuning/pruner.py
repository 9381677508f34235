"""The pruner of a study: which trials end early because they fall behind."""

from optuna import pruners

from flowers.config.params import TuneParams

# Trials that end before the median pruner begins. The first one has the values of params.yaml, a fair measure from the
# start: with Optuna's 5, a study of 20 trials of Oxford's flowers spent half of its time before.
_STARTUP_TRIALS = 2


def pruner(tune: TuneParams, most: int) -> pruners.BasePruner:
    """The pruner that `tune.pruner` names. Its steps are the epochs of all trainings of a trial, `most` of them."""
    least = max(1, tune.warmup_epochs)
    if tune.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=tune.warmup_epochs)
    if tune.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=least, max_resource=max(most, least), reduction_factor=3)
    if tune.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=3)
    return pruners.NopPruner()

"""The schedule of a phase with plain defaults, so that a test names only what matters."""

from flowers.training.schedule import Schedule


def schedule(**changes) -> Schedule:
    settings = {
        "phase": "head",
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 0.01,
        "shape": "constant",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "patience": 100,
        "seed": 0,
    }
    assert changes.keys() <= settings.keys()
    return Schedule(**settings | changes)

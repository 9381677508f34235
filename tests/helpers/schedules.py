"""The schedule of a phase with plain defaults, so that a test names only what matters."""

from flowers.config.params import TrainParams
from flowers.training.schedule import Schedule


def schedule(phase: str = "head", epochs: int = 10, learning_rate: float = 0.01, **changes) -> Schedule:
    settings = {
        "batch_size": 32,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "averaging": 0.0,
        "patience": 100,
        "seed": 0,
    }
    assert changes.keys() <= settings.keys() <= TrainParams.model_fields.keys()
    return Schedule(phase, epochs, learning_rate, TrainParams.model_construct(**settings | changes))

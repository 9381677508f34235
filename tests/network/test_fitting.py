"""Fitting: what the second phase starts from."""

import numpy as np

from flowers.network import fitting, training
from flowers.network.trunk import Cut


def test_fine_tuning_starts_from_the_best_head_not_from_the_last(world, cheap_trunk):
    phases = {"epochs": 10, "learning_rate": 0.03, "fine_tune_learning_rate": 1e-12}
    fitted = []
    for fine_tune_epochs in (0, 1):
        train = {**phases, "fine_tune_epochs": fine_tune_epochs}
        settings = world.settings(head={"units": []}, model={"unfreeze_blocks": 1}, train=train)
        data = fitting.Data("float32", settings.augmentation, [Cut(1)])
        progress = training.Progress()
        fitting.fit(settings.model, settings.head, settings.train, data, progress)
        fitted.append(progress)
    head, both = fitted
    assert head.best_epoch < len(head.rows) - 1  # else the test would tell nothing
    for name, best in head.best.items():
        np.testing.assert_allclose(both.tensors[name], best, atol=1e-6)

"""Fitting: what each phase starts from, and resuming."""

import numpy as np
import pytest

from flowers.model.feature_layer import FeatureLayer
from flowers.training import fitting, phases


def test_fine_tuning_starts_from_the_best_head_not_from_the_last(world, cheap_backbone):
    rates = {"epochs": 10, "learning_rate": 0.03, "fine_tune_learning_rate": 1e-12}
    fitted = []
    for fine_tune_epochs in (0, 1):
        train = {**rates, "fine_tune_epochs": fine_tune_epochs}
        settings = world.settings(head={"units": []}, model={"unfreeze_blocks": 1}, train=train)
        data = fitting.Data("float32", settings.augmentation, [FeatureLayer(1)])
        progress = phases.Progress()
        fitting.fit(settings.model, settings.head, settings.train, data, progress)
        fitted.append(progress)
    head, both = fitted
    assert head.best_epoch < len(head.rows) - 1  # otherwise the test shows nothing
    for name, best in head.best.items():
        np.testing.assert_allclose(both.tensors[name], best, atol=1e-6)


REGRESSION = {"units": [], "initialization": "regression", "normalization": "root", "penalty": 0.01}


def fitted(world, progress=None, on_epoch=None, **train) -> phases.Progress:
    """A training with a regression head and one unfrozen block."""
    settings = world.settings(head=REGRESSION, model={"unfreeze_blocks": 1}, train={"epochs": 0, **train})
    data = fitting.Data(
        "float32", settings.augmentation, [FeatureLayer(1)], with_validation=settings.train.on == "train"
    )
    progress = progress or phases.Progress()
    fitting.fit(settings.model, settings.head, settings.train, data, progress, on_epoch)
    return progress


def test_a_regression_is_a_phase_of_its_own_and_fine_tuning_starts_from_its_head(world, cheap_backbone):
    alone = fitted(world, fine_tune_epochs=0)
    assert [(row["epoch"], row["phase"]) for row in alone.rows] == [(0, "regression")]
    assert alone.rows[0]["accuracy"] == 1 and alone.rows[0]["val_accuracy"] > 0.5 and alone.best_epoch == 0
    assert alone.best_score == (alone.rows[0]["val_mean_per_class_accuracy"], -alone.rows[0]["val_loss"])
    both = fitted(world, fine_tune_epochs=2, fine_tune_learning_rate=1e-12)
    assert [row["phase"] for row in both.rows] == ["regression", "fine_tune", "fine_tune"]
    for name in ("head_logits/kernel", "head_logits/bias"):
        np.testing.assert_allclose(both.tensors[name], alone.best[name], atol=1e-6)


def test_training_images_have_the_size_of_the_augmentation(world, cheap_backbone):
    settings = world.settings(model={"unfreeze_blocks": 1, "input_size": 128}, augmentation={"size": 96})
    data = fitting.Data("float32", settings.augmentation, [fitting.feature_layer_of(settings.model)])
    training_set, validation = data.at(1, class_weights=False)
    assert training_set.examples[np.arange(1)].shape == (1, *FeatureLayer(1, 96).shape)
    assert validation.examples[np.arange(1)].shape == (1, *FeatureLayer(1, 128).shape)
    assert len(validation.examples) == len(validation.labels) == 6 and training_set.views.shape == (12, 2)


def test_head_epochs_may_follow_a_regression(world, cheap_backbone):
    rows = fitted(world, epochs=2, fine_tune_epochs=0, learning_rate=1e-12).rows
    assert [row["phase"] for row in rows] == ["regression", "head", "head"]
    assert rows[2]["val_loss"] == pytest.approx(rows[0]["val_loss"], abs=1e-4)


def test_without_validation_the_last_epoch_is_the_best(world, cheap_backbone):
    progress = fitted(world, on="train+val", fine_tune_epochs=2)
    assert progress.best_epoch == 2 and not any(name.startswith("val") for row in progress.rows for name in row)


def test_a_training_interrupted_after_the_regression_resumes_to_the_same_bits(world, cheap_backbone):
    class Killed(Exception):
        pass

    def kill(row) -> None:
        raise Killed

    through, resumed = fitted(world), phases.Progress()
    with pytest.raises(Killed):
        fitted(world, resumed, kill)
    assert len(resumed.rows) == 1
    fitted(world, resumed)
    assert resumed.rows == through.rows
    assert all(resumed.best[name].tobytes() == through.best[name].tobytes() for name in through.best)


def test_folds_share_one_extraction_and_equal_a_training_on_their_images(world, cheap_backbone):
    """A fold that holds out the images of val is the training on train."""
    for depth in (0, 1):
        settings = world.settings(model={"unfreeze_blocks": depth}, train={"fine_tune_epochs": 1})
        layer = fitting.feature_layer_of(settings.model)
        usual, found = phases.Progress(), phases.Progress()
        fitting.fit(*of(settings), fitting.Data("float32", settings.augmentation, [layer]), usual)
        data = fitting.Data("float32", settings.augmentation, [layer], in_folds=True)
        subset = data.train.table["subset"].to_numpy()
        fold = fitting.Fold(np.flatnonzero(subset == "train"), np.flatnonzero(subset == "val"))
        before = cheap_backbone.computed
        fitting.fit(*of(settings), data, found, fold=fold)
        assert found.rows == usual.rows and len(found.rows) == 5 + depth
        assert cheap_backbone.computed == before


def of(settings):
    return settings.model, settings.head, settings.train


def test_folds_with_larger_training_images_are_validated_at_the_size_of_the_model(world, cheap_backbone):
    settings = world.settings(model={"unfreeze_blocks": 1, "input_size": 128}, augmentation={"size": 96})
    layer = fitting.feature_layer_of(settings.model)
    data = fitting.Data("float32", settings.augmentation, [layer], in_folds=True)
    _, validation = data.at(1, False, fitting.Fold(np.arange(1, 18), np.array([0])))
    assert validation.examples[np.arange(1)].shape == (1, *FeatureLayer(1, 128).shape)
    assert len(validation.labels) == 1

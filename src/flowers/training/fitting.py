"""Fit a model as params.yaml describes it: first the head, then from its best epoch head and unfrozen blocks together.

`fit` runs the phases, phases.py the epochs of a phase, epochs.py the steps of an epoch. The stage `train` and the
trials of a study both call `fit`, so equal parameters give equal bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import AugmentationParams, HeadParams, ModelParams, TrainParams
from flowers.model import backend, keras_model, weights
from flowers.model.backbone import best_precision
from flowers.model.feature_layer import HEAD_FEATURES, FeatureLayer
from flowers.model.trainable import TrainablePart
from flowers.training import activation_cache, epochs, linear_head, phases, subsets
from flowers.training.schedule import Schedule


@dataclass(frozen=True)
class Fold:
    """The rows of the images to train on, and of those to validate with, int64 each."""

    train: np.ndarray
    val: np.ndarray


class Data:
    """Weights, training images and validation images, with their activations at feature layers and pooled features."""

    def __init__(
        self,
        precision: str,
        augmentation: AugmentationParams,
        feature_layers: Sequence[FeatureLayer],
        with_validation: bool = True,
        in_folds: bool = False,
    ) -> None:
        """Read the split and compute the activations that the cache lacks.

        Without validation, the validation images are training images; `in_folds` all images of both are for either.
        The feature layers, at least one, have one size: that of validation images, and of training images unless
        `augmentation.size` is set. Raises UserError if the outputs of download or split cannot be used.
        """
        self.tensors = read_weights()
        self.precision = best_precision() if precision == "auto" else precision
        self.train = subsets.read(*(["train", "val"] if in_folds or not with_validation else ["train"]))
        self.val = self.train if in_folds else subsets.read("val") if with_validation else None
        self._val_size = feature_layers[0].size
        self.size = augmentation.size or self._val_size
        views = [item for of_image in self.train.augmented(augmentation, self.size) for item in of_image]
        self._rows = np.arange(len(views)).reshape(len(self.train), -1)
        items = {self.size: views}  # images of one size share one pass of the backbone
        if in_folds and self.size == self._val_size:
            self._val_rows = self._rows[:, 0]  # the first view is the plain one
        elif self.val is not None:
            before = items.get(self._val_size, [])
            items[self._val_size] = before + self.val.plain(self._val_size)
            self._val_rows = np.arange(len(before), len(items[self._val_size]))
        self._examples = {size: self._stored(of_size, feature_layers, size) for size, of_size in items.items()}

    def _stored(
        self, items: list[activation_cache.Item], feature_layers: Sequence[FeatureLayer], size: int
    ) -> dict[int, np.ndarray | activation_cache.Activations]:
        """Activations of items of one size, by the number of blocks above the feature layer."""
        pooled = FeatureLayer.below(0, size)
        wanted = [pooled, *(replace(layer, size=size) for layer in feature_layers)]
        stored = activation_cache.stored(items, wanted, self.tensors, self.precision)
        pooled_features = stored.pop(pooled)[:]  # fit into memory
        return {0: pooled_features} | {layer.unfreeze_blocks: values for layer, values in stored.items()}

    def at(
        self, unfreeze_blocks: int, class_weights: bool, fold: Fold | None = None
    ) -> tuple[epochs.TrainingSet, phases.ValidationSet | None]:
        """Training and validation set, those of a fold, with activations below the top `unfreeze_blocks` blocks."""
        chosen = slice(None) if fold is None else fold.train
        labels = self.train.labels[chosen]
        weights = np.ones(len(labels), np.float32)
        if class_weights:
            weights = phases.class_weights(labels, len(self.train.classes))
        examples = self._examples[self.size][unfreeze_blocks]
        training = epochs.TrainingSet(examples, self._rows[chosen], labels, weights)
        if self.val is None:
            return training, None
        examples, held_out = self._examples[self._val_size][unfreeze_blocks], slice(None) if fold is None else fold.val
        rows = self._val_rows[held_out]
        return training, phases.ValidationSet(
            examples[rows] if isinstance(examples, np.ndarray) else examples.at(rows), self.val.labels[held_out]
        )


def feature_layer_of(model: ModelParams) -> FeatureLayer:
    """The feature layer of these parameters, for images of `model.input_size`."""
    return FeatureLayer.below(model.unfreeze_blocks, model.input_size)


def fit(
    model: ModelParams,
    head: HeadParams,
    train: TrainParams,
    data: Data,
    progress: phases.Progress,
    on_epoch: phases.OnEpoch | None = None,
    save: Callable[[phases.Progress], None] | None = None,
    fold: Fold | None = None,
) -> None:
    """Run all phases, or those that `progress` has left, and update `progress`. Raises phases.Diverged.

    `fold` is one of `data` that was read for folds. After each epoch `save` gets the progress, then `on_epoch` the row
    of scores.
    """

    def after_epoch(row: phases.Row) -> None:
        if save is not None:
            save(progress)
        if on_epoch is not None:
            on_epoch(row)

    backend.make_deterministic(train.seed)
    layer = replace(feature_layer_of(model), size=data.size)
    classes = len(data.train.classes)
    head_model = keras_model.head(
        classes, head.units, head.dropout, train.seed, head.normalization, HEAD_FEATURES[head.features]
    )
    if progress.best:  # of an earlier phase; phases.train restores the state within a phase
        keras_model.set_tensors(head_model, progress.best)
    if progress.phase != "fine_tune":
        training, validation = data.at(0, train.class_weights, fold)
        trainable = TrainablePart(FeatureLayer.below(0, data.size), data.tensors, head_model)
        if head.initialization != "random" and not progress.rows:
            linear_head.initialize(head_model, training, head)
            phases.record_baseline(trainable, head.initialization, training, validation, progress, after_epoch)
        if train.epochs:
            schedule = Schedule("head", train.epochs, train.learning_rate, train)
            phases.train(trainable, training, validation, schedule, progress, after_epoch)
    if model.unfreeze_blocks and train.fine_tune_epochs:
        keras_model.set_tensors(head_model, progress.best)
        training, validation = data.at(model.unfreeze_blocks, train.class_weights, fold)
        trainable = TrainablePart(layer, data.tensors, head_model, data.precision, model.train_batch_norm)
        schedule = Schedule("fine_tune", train.fine_tune_epochs, train.fine_tune_learning_rate, train)
        phases.train(trainable, training, validation, schedule, progress, after_epoch)


def read_weights() -> weights.Tensors:
    """The weights of the download stage. Raises UserError if they are missing or damaged."""
    try:
        return weights.read(paths.WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{paths.WEIGHTS}: no such file; run `dvc repro`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{paths.WEIGHTS}: {error}; run `dvc repro -f download`") from None

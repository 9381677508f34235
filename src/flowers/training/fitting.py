"""Fitting a model as params.yaml describes it: the head alone, then, from its best epoch on, head and unfrozen blocks.

The stage `train` and the trials of a study both train through `fit`, so equal parameters give equal bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import AugmentationParams, HeadParams, ModelParams, TrainParams
from flowers.model import backend, keras_model, weights
from flowers.model.backbone import best_precision
from flowers.model.feature_layer import FeatureLayer
from flowers.model.trainable import Examples, TrainablePart
from flowers.training import activation_cache, epochs, phases, regression, subsets
from flowers.training.schedule import Schedule


class Data:
    """The weights, and training and validation images with activations at feature layers and pooled features."""

    def __init__(
        self,
        precision: str,
        augmentation: AugmentationParams,
        feature_layers: Sequence[FeatureLayer],
        with_validation: bool = True,
    ) -> None:
        """Without validation its photos are trained on, too. Computes what the store of activations lacks.

        The feature layers, one at least, are of one size: that of validation images, and of training images where
        `augmentation` names no other.

        Raises UserError where the outputs of download or split cannot be used.
        """
        self.tensors = read_weights()
        self.precision = best_precision() if precision == "auto" else precision
        self.train = subsets.read(*(["train"] if with_validation else ["train", "val"]))
        self.val = subsets.read("val") if with_validation else None
        self._val_size = feature_layers[0].size
        self.size = augmentation.size or self._val_size
        views = [item for of_photo in self.train.augmented(augmentation, self.size) for item in of_photo]
        self._rows = np.arange(len(views)).reshape(len(self.train), -1)
        # Photos of one size go through one pass of the backbone.
        items = {self._val_size: self.val.plain(self._val_size) if self.val else []}
        items[self.size] = views + items.get(self.size, [])
        end = len(items[self._val_size])
        self._val_rows = np.arange(end - (len(self.val) if self.val else 0), end)
        self._examples = {
            size: self._stored(of_size, feature_layers, size) for size, of_size in items.items() if of_size
        }

    def _stored(
        self, items: list[activation_cache.Item], feature_layers: Sequence[FeatureLayer], size: int
    ) -> dict[int, Examples]:
        """The activations of items of one size by how many blocks are left above the feature_layer."""
        pooled = replace(feature_layers[0], unfreeze_blocks=0, size=size)
        wanted = [pooled, *(replace(feature_layer, size=size) for feature_layer in feature_layers)]
        stored = activation_cache.stored(items, wanted, self.tensors, self.precision)
        # Pooled features are small enough to be held in memory.
        return {feature_layer.unfreeze_blocks: values for feature_layer, values in stored.items()} | {
            0: stored[pooled][:]
        }

    def at(self, unfreeze_blocks: int, class_weights: bool) -> tuple[epochs.TrainingSet, phases.ValidationSet | None]:
        """Both sets with their activations below so many blocks; with or without a weight a class."""
        labels, val = self.train.labels, None
        weighed = phases.class_weights(labels, len(self.train.classes))
        if not class_weights:
            weighed = np.ones_like(weighed)
        if self.val is not None:
            examples = self._examples[self._val_size][unfreeze_blocks]
            val = phases.ValidationSet(_Rows(examples, self._val_rows), self.val.labels)
        return epochs.TrainingSet(self._examples[self.size][unfreeze_blocks], self._rows, labels, weighed), val


def feature_layer_of(model: ModelParams, head: HeadParams) -> FeatureLayer:
    """Where these parameters feature_layer the network, for photos of the size that is to be answered."""
    return FeatureLayer.below(model.unfreeze_blocks, model.input_size, head.features)


def fit(
    model: ModelParams,
    head: HeadParams,
    train: TrainParams,
    data: Data,
    progress: phases.Progress,
    on_epoch: phases.OnEpoch | None = None,
    save: Callable[[phases.Progress], None] | None = None,
) -> None:
    """Train for all phases, or for what is left of them; `progress` is updated. Raises training.Diverged."""
    backend.make_deterministic(train.seed)
    feature_layer = replace(feature_layer_of(model, head), size=data.size)
    head_model = keras_model.head(
        len(data.train.classes), head.units, head.dropout, train.seed, head.normalization, feature_layer.features
    )
    if progress.best:  # of an earlier phase; within a phase, its state is put back
        keras_model.set_tensors(head_model, progress.best)
    if progress.phase != "fine_tune":
        pooled = replace(feature_layer, unfreeze_blocks=0)
        trainable, sets = TrainablePart(pooled, data.tensors, head_model), data.at(0, train.class_weights)
        if head.initialization == "regression" and not progress.rows:
            regression.initialize(head_model, sets[0], head.penalty)
            phases.record_baseline(trainable, "regression", *sets, progress, on_epoch, save)
        if train.epochs:
            phases.train(trainable, *sets, _schedule(train, "head"), progress, on_epoch, save)
    if model.unfreeze_blocks and train.fine_tune_epochs:
        keras_model.set_tensors(head_model, progress.best)
        sets = data.at(model.unfreeze_blocks, train.class_weights)
        trainable = TrainablePart(feature_layer, data.tensors, head_model, data.precision, model.train_batch_norm)
        phases.train(trainable, *sets, _schedule(train, "fine_tune"), progress, on_epoch, save)


def read_weights() -> weights.Tensors:
    """The weights that the download stage made; raises UserError where they are missing or damaged."""
    try:
        return weights.read(paths.WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{paths.WEIGHTS}: no such file; run `dvc repro`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{paths.WEIGHTS}: {error}; run `dvc repro -f download`") from None


class _Rows:
    """Some rows of a set of examples, as a set of examples."""

    def __init__(self, examples: Examples, rows: np.ndarray) -> None:
        self._examples, self._rows = examples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._examples[self._rows[rows]]


def _schedule(train: TrainParams, phase: str) -> Schedule:
    fine = phase == "fine_tune"
    return Schedule(
        phase=phase,
        epochs=train.fine_tune_epochs if fine else train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.fine_tune_learning_rate if fine else train.learning_rate,
        shape=train.schedule,
        warmup_epochs=train.warmup_epochs,
        weight_decay=train.weight_decay,
        label_smoothing=train.label_smoothing,
        patience=train.patience,
        seed=train.seed,
    )

"""params.yaml as strict typed objects: an unknown key, a wrong type or a value out of range is an error that names it.

No parameter of the pipeline has a default here. Every value stands in params.yaml, where DVC tracks it key by key, so
this module only checks and never decides a result.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import validation_errors
from flowers.config.architecture import CONV5_BLOCKS, RESIDUAL_BLOCKS, STRIDE

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(ge=96, le=640, multiple_of=STRIDE)]  # of the network's input, in pixels

Checked = TypeVar("Checked", bound=BaseModel)

DECIDE_NO_RESULT = ("promote", "tune")  # sections about results, of which no stage reads anything


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatasetParams(_Section):
    """Which photos: a name of the catalogue; for `local`, the folder; and where to fetch archives instead."""

    name: str
    path: str
    mirror: str | None
    bad_images: Literal["skip", "refuse"]


class SplitParams(_Section):
    """How photos are dealt to train, val and test."""

    method: Literal["auto", "random", "official"]
    train: Fraction
    val: Fraction
    test: Fraction
    seed: Seed

    @model_validator(mode="after")
    def _fractions_add_up(self) -> "SplitParams":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test add up to {total:g}; they must add up to 1")
        if min(self.train, self.val, self.test) == 0:
            raise ValueError("train, val and test must each be more than 0")
        return self


class ModelParams(_Section):
    """The ResNet50: its weights, which residual blocks from the top are trained too and how, and the precision."""

    weights: str
    unfreeze_blocks: Annotated[int, Field(ge=0, le=RESIDUAL_BLOCKS)]
    train_batch_norm: bool
    mirror: bool
    input_size: Side
    precision: Literal["auto", "float32", "bfloat16"]


class HeadParams(_Section):
    """The classifier on the pooled features: hidden Dense layers with ReLU, each followed by dropout, then softmax.

    What the features go through before, and what the last kernel is to begin with: drawn, or by a regression with a
    penalty.
    """

    units: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(strict=False, max_length=8)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    features: Literal["conv5", "conv4+conv5"]
    normalization: Literal["none", "root"]
    initialization: Literal["random", "regression"]
    penalty: Positive

    @model_validator(mode="after")
    def _regression_is_linear(self) -> "HeadParams":
        if self.initialization == "regression" and self.units:
            raise ValueError("initialization: regression makes a linear head; it needs units: []")
        return self


class AugmentationParams(_Section):
    """Random views of every training photo, drawn once and stored beside the plain one; all of one size."""

    views: Annotated[int, Field(ge=0, le=64)]
    size: Side | None  # None: model.input_size
    flip: bool
    min_area: Annotated[float, Field(gt=0, le=1)]
    seed: Seed


class TrainParams(_Section):
    """The two phases of training: the head alone, then head and unfrozen blocks at a rate of their own."""

    on: Literal["train", "train+val"]
    epochs: Annotated[int, Field(ge=0)]
    fine_tune_epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    learning_rate: Positive
    fine_tune_learning_rate: Positive
    schedule: Literal["constant", "cosine"]
    warmup_epochs: NonNegative
    weight_decay: NonNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: bool
    patience: Annotated[int, Field(ge=1)]
    seed: Seed


class EvaluateParams(_Section):
    """The bootstrap behind the confidence intervals, and how many mistakes the report shows."""

    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)]
    gallery: Annotated[int, Field(ge=0, le=200)]
    seed: Seed


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("Input should be a number")
    return value


Number = Annotated[Any, AfterValidator(_number)]  # which stays an int where it is one


class Dimension(_Section):
    """Where a study looks for one parameter: from `low` to `high`, on a logarithmic scale or in steps; or `choices`."""

    low: Number = None
    high: Number = None
    step: Annotated[Number, Field(gt=0)] = None
    log: bool = False
    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("choices stand alone, without low, high, step and log")
            if len({repr(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice stands there twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        return self


class TuneParams(_Section):
    """The study: how many trials, what it searches, and what it calls better than noise."""

    n_trials: Annotated[int, Field(ge=1)]
    repeats: Annotated[int, Field(ge=1, le=100)]
    pruner: Literal["median", "hyperband", "halving", "none"]
    warmup_epochs: Annotated[int, Field(ge=0)]
    confirm_seeds: Annotated[int, Field(ge=0, le=100)]
    seed: Seed
    space: Annotated[dict[str, Dimension], Field(min_length=1)]

    @field_validator("confirm_seeds")
    @classmethod
    def _spread_needs_two(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one seed shows no spread: 0 (do not confirm), or 2 and more")
        return value


class PromoteParams(_Section):
    """What a model must show to become champion, beside being better: the least recall of guarded classes, answers."""

    floors: dict[str, Fraction]
    probe_photos: Annotated[int, Field(ge=1, le=1000)]


def check_together(sections: Any) -> Any:
    """What stands in several sections must go together. Raises ValueError."""
    if sections.train.epochs == 0 and sections.head.initialization == "random":
        raise ValueError("train.epochs: 0 trains no head; it needs head.initialization: regression")
    if sections.head.features == "conv4+conv5" and 0 < sections.model.unfreeze_blocks < CONV5_BLOCKS:
        raise ValueError(f"head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or {CONV5_BLOCKS} and more")
    return sections


class Training(_Section):
    """The sections that decide a training: a study searches in them, a recipe sets them."""

    model: ModelParams
    head: HeadParams
    augmentation: AugmentationParams
    train: TrainParams

    _together = model_validator(mode="after")(check_together)


class Params(_Section):
    """All of params.yaml."""

    dataset: DatasetParams
    split: SplitParams
    model: ModelParams
    head: HeadParams
    augmentation: AugmentationParams
    train: TrainParams
    evaluate: EvaluateParams
    promote: PromoteParams
    tune: TuneParams

    _together = model_validator(mode="after")(check_together)


def load(path: Path = paths.PARAMS) -> Params:
    """Read and check a parameter file; raises UserError that names the file, the key and what is wrong with it."""
    params = checked(Params, read(path), path)
    folder = params.dataset.path
    if params.dataset.name == "local" and folder != "data.yaml" and not Path(folder).is_absolute():
        raise UserError(f"{path}: dataset.path: '{folder}' must be data.yaml or an absolute path")
    return params


def read(path: Path) -> Any:
    """What a YAML file of the checkout holds, not yet checked; raises UserError that names the file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this from the root of the checkout") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def checked(model: type[Checked], document: Any, path: Path) -> Checked:
    """What was read from `path`, typed; raises UserError that names the file, the keys and what is wrong with them."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UserError("\n".join(validation_errors.explained(model, path, error))) from None


def training_values(settings: Params | Training) -> dict[str, Any]:
    """The values of all keys that decide a training, by dotted names such as 'head.units'."""
    return {f"{section}.{key}": value for section in Training.model_fields for key, value in getattr(settings, section)}

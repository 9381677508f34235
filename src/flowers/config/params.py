"""params.yaml as strict typed objects: an unknown key, a wrong type or a value out of range raises an error naming it.

No parameter of the pipeline has a default here. Every value stands in params.yaml, where DVC tracks it key by key, so
this module only checks values and never decides a result. docs/parameters.md is made from the descriptions.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import validation_errors
from flowers.config.architecture import CONV5_BLOCKS, RESIDUAL_BLOCKS, STRIDE

if TYPE_CHECKING:
    from ruamel.yaml import YAML

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(ge=96, le=640, multiple_of=STRIDE)]  # of an input image, in pixels

Checked = TypeVar("Checked", bound=BaseModel)

DECIDE_NO_RESULT = ("promote", "tune")  # sections that no stage reads


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DatasetParams(_Section):
    """The data set, and where its images come from."""

    name: str = Field(description="`local`, `oxford_flowers102`, `flower_photos` or `flowers_recognition`; see DATA.md")
    path: str = Field(
        description="of `local`: `data.yaml` for `data/` as versioned by `data.dvc`, or the absolute path of a folder "
        "`<class>/<image>` or `{train,val,test}/<class>/<image>` (whose split is then official)"
    )
    mirror: str | None = Field(
        description="another base address, or a folder, for the archives of the other data sets; checksums still apply"
    )
    bad_images: Literal["skip", "refuse"] = Field(
        description="`skip` images that cannot be read and list them in `build/skipped.csv`, or `refuse` the data set"
    )


class SplitParams(_Section):
    """How images are split into train, val and test."""

    method: Literal["auto", "random", "official"] = Field(
        description="`random` is stratified; `official` is the data set's own split; `auto` is official if there is one"
    )
    train: Fraction = Field(description="fraction of each class to train on; the three fractions add up to 1")
    val: Fraction = Field(description="fraction of each class for validation")
    test: Fraction = Field(description="fraction of each class for the test")
    seed: Seed = Field(description="seed of the random split; near-duplicates always stay together")

    @model_validator(mode="after")
    def _fractions_add_up(self) -> "SplitParams":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test add up to {total:g}; they must add up to 1")
        if min(self.train, self.val, self.test) == 0:
            raise ValueError("train, val and test must each be more than 0")
        return self


class ModelParams(_Section):
    """The ResNet50 backbone: its weights, how many of its residual blocks are unfrozen, and its input."""

    weights: str = Field(
        description="`imagenet`, `random` (to try things out), or a file with Keras's ImageNet weights (.h5 or .npz)"
    )
    unfreeze_blocks: int = Field(
        ge=0, le=RESIDUAL_BLOCKS, description="number of residual blocks, counted from the output, that are trained too"
    )
    train_batch_norm: bool = Field(
        description="train scale and shift of the BatchNorm layers in the unfrozen blocks; their statistics stay fixed"
    )
    mirror: bool = Field(
        description="test-time flips: average the logits of an image and its mirror image, which takes twice the time"
    )
    input_size: Side = Field(description="side of an input image in pixels; 288 costs 1.65 times as much as 224")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="number format of the convolutions; `auto` is bfloat16 if the GPU or processor multiplies in it"
    )


class HeadParams(_Section):
    """The classifier on the pooled features: hidden Dense layers with ReLU and dropout, then softmax."""

    units: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(strict=False, max_length=8)] = Field(
        description="widths of the hidden layers; `[]` is a linear head"
    )
    dropout: float = Field(ge=0, lt=1, description="dropout rate after each hidden layer")
    features: Literal["conv5", "conv4+conv5"] = Field(
        description="`conv5`: the 2,048 pooled features of the last stage; `conv4+conv5`: these and 1,024 of the stage "
        f"before, which needs `model.unfreeze_blocks` to be 0, or {CONV5_BLOCKS} and more"
    )
    normalization: Literal["none", "root"] = Field(
        description="normalisation of each stage's features; `root` divides by their mean and takes the square root"
    )
    initialization: Literal["random", "regression"] = Field(
        description="initial kernel of the last layer; `regression` (linear head only) is a logistic regression on all "
        "augmented views"
    )
    penalty: Positive = Field(description="L2 penalty of that regression: times half the sum of the kernel's squares")

    @model_validator(mode="after")
    def _regression_is_linear(self) -> "HeadParams":
        if self.initialization == "regression" and self.units:
            raise ValueError("initialization: regression makes a linear head; it needs units: []")
        return self


class AugmentationParams(_Section):
    """Random augmented views of every training image, drawn once; their features are cached."""

    views: int = Field(
        ge=0,
        le=64,
        description="augmented views of each training image besides the plain one; an epoch uses one",
    )
    size: Side | None = Field(
        description="side of the training views in pixels, if it differs from `model.input_size`; smaller trains faster"
    )
    flip: bool = Field(description="mirror half of the augmented views")
    min_area: float = Field(gt=0, le=1, description="smallest fraction of the image that a random crop keeps")
    seed: Seed = Field(description="seed of the random crops")


class TrainParams(_Section):
    """The two phases of training: the head alone, then head and unfrozen blocks together."""

    on: Literal["train", "train+val"] = Field(
        description="subsets to train on; `train+val` trains for a fixed number of epochs, without early stopping"
    )
    epochs: int = Field(
        ge=0, description="most epochs of the head alone; 0 keeps the head as `head.initialization: regression` made it"
    )
    fine_tune_epochs: int = Field(ge=0, description="most epochs of head and unfrozen blocks together")
    batch_size: int = Field(ge=1, le=4096, description="images of a training step")
    learning_rate: Positive = Field(description="learning rate of the head alone")
    fine_tune_learning_rate: Positive = Field(description="learning rate of head and unfrozen blocks together")
    schedule: Literal["constant", "cosine"] = Field(
        description="learning rate in each phase; `cosine` falls to 0 at the end of the phase"
    )
    warmup_epochs: NonNegative = Field(description="epochs at the start of each phase in which the rate rises from 0")
    weight_decay: NonNegative = Field(description="weight decay of AdamW; biases do not decay")
    label_smoothing: float = Field(ge=0, lt=1, description="label smoothing of the loss")
    class_weights: bool = Field(description="weight the loss so that each class counts the same")
    patience: int = Field(ge=1, description="epochs without a better validation score that end a phase")
    seed: Seed = Field(description="seed of the initial weights, the order, the view of each epoch, and dropout")


class EvaluateParams(_Section):
    """The bootstrap confidence intervals, and the gallery of errors in the report."""

    bootstrap_samples: int = Field(ge=100, le=1_000_000, description="resamples for the confidence intervals")
    gallery: int = Field(
        ge=0, le=200, description="misclassified images that the report shows with Grad-CAM, the most confident first"
    )
    seed: Seed = Field(description="seed of the bootstrap")


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("Input should be a number")
    return value


Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]  # an int stays an int


class Dimension(_Section):
    """The search range of one parameter: `low` to `high`, optionally with `step` or `log`; or `choices`."""

    low: Number = Field(None, description="smallest value")
    high: Number = Field(None, description="largest value")
    step: Number = Field(None, gt=0, description="distance between values")
    log: bool = Field(False, description="sample on a logarithmic scale")
    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=1)] | None = Field(
        None, description="the values to choose from, in place of `low` and `high`"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("choices stand alone, without low, high, step and log")
            if len({repr(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice is listed twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        return self


class PromoteParams(_Section):
    """What a model must reach to become champion, besides a better score than the current champion."""

    floors: dict[str, Fraction] = Field(
        description="minimum recall of named classes on validation images, such as `{roses: 0.9}`"
    )
    probe_photos: int = Field(
        ge=1, le=1000, description="images of the prediction check: predictions must equal those of the evaluation"
    )


class TuneParams(_Section):
    """The study: the number of trials, the search space, and how the best trial is confirmed."""

    n_trials: int = Field(ge=1, description="trials of the study, on all machines together")
    repeats: int = Field(ge=1, le=100, description="trainings of each trial with successive seeds; scores are averaged")
    pruner: Literal["median", "hyperband", "halving", "none"] = Field(description="pruner of unpromising trials")
    warmup_epochs: int = Field(ge=0, description="epochs of each trial before it can be pruned")
    confirm_seeds: int = Field(
        ge=0, le=100, description="fresh seeds to compare the best trial with params.yaml; 0 skips the comparison"
    )
    seed: Seed = Field(description="seed of the sampler; the trainings start from `train.seed`")
    space: dict[str, Dimension] = Field(
        min_length=1, description="parameters of model, head, augmentation and train to search, with their ranges"
    )

    @field_validator("confirm_seeds")
    @classmethod
    def _spread_needs_two(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one seed shows no spread: 0 (do not confirm), or 2 and more")
        return value


def check_together(sections: Any) -> Any:
    """Check values that constrain each other across sections. Raises ValueError."""
    if sections.train.epochs == 0 and sections.head.initialization == "random":
        raise ValueError("train.epochs: 0 trains no head; it needs head.initialization: regression")
    if sections.head.features == "conv4+conv5" and 0 < sections.model.unfreeze_blocks < CONV5_BLOCKS:
        raise ValueError(f"head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or {CONV5_BLOCKS} and more")
    return sections


class Training(_Section):
    """The sections that decide a training: a study searches them, a recipe sets them."""

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
    """Read and check a parameter file; raises UserError naming the file, the key and what is wrong with it."""
    params = checked(Params, read(path), path)
    folder = params.dataset.path
    if params.dataset.name == "local" and folder != "data.yaml" and not Path(folder).is_absolute():
        raise UserError(f"{path}: dataset.path: '{folder}' must be data.yaml or an absolute path")
    return params


def read(path: Path, yaml: "YAML | None" = None) -> Any:
    """The unchecked content of a YAML file, loaded by `yaml` or a safe loader; raises UserError naming the file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return (yaml or YAML(typ="safe")).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this from the root of the checkout") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def checked(model: type[Checked], document: Any, path: Path) -> Checked:
    """The content of the file `path` as a typed object; raises UserError naming the file, keys and what is wrong."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UserError("\n".join(validation_errors.explained(model, path, error))) from None


def training_values(settings: Params | Training) -> dict[str, Any]:
    """The values of all keys that decide a training, by dotted names such as 'head.units'."""
    return {f"{section}.{key}": value for section in Training.model_fields for key, value in getattr(settings, section)}

"""params.yaml as strict typed objects: an unknown key, a wrong type or a value out of range is an error that names it.

No parameter of the pipeline has a default here. Every value is in params.yaml, where DVC tracks it key by key, so this
module checks values and never decides a result. docs/parameters.md is made from the descriptions.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config import validation_errors
from flowers.config.architecture import CONV5_BLOCKS, RESIDUAL_BLOCKS
from flowers.config.parameter_types import Dimension, Fraction, NonNegative, Positive, Section, Seed, Side

if TYPE_CHECKING:
    from ruamel.yaml import YAML

Checked = TypeVar("Checked", bound=BaseModel)

DECIDE_NO_RESULT = ("promote", "tune")  # sections that no stage reads


class DatasetParams(Section):
    """The images: a data set of the catalogue; for `local`, its folder; and another place to fetch archives from."""

    name: str = Field(description="a data set: `local`, `oxford_flowers102`, `flower_photos` or `flowers_recognition`")
    path: str = Field(
        description="of `local`: `data.yaml` for `data/` as `data.dvc` versions it, or the absolute path of a folder "
        "`<class>/<image>` or `{train,val,test}/<class>/<image>` (the official split)"
    )
    mirror: str | None = Field(
        description="another base address, or a folder, for the archives of the other data sets; checksums still apply"
    )
    bad_images: Literal["skip", "refuse"] = Field(
        description="`skip` images that cannot be read (listed in `build/skipped.csv`), or raise an error"
    )


class SplitParams(Section):
    """How images are assigned to train, val and test."""

    method: Literal["auto", "random", "official"] = Field(
        description="`random` is stratified by class; `auto` is `official` if the data set has a split, else `random`"
    )
    train: Fraction = Field(description="fraction of each class for training; the three fractions add up to 1")
    val: Fraction = Field(description="fraction of each class for validation")
    test: Fraction = Field(description="fraction of each class for testing")
    seed: Seed = Field(
        description="another seed gives another random split; one image more moves only those at the boundaries"
    )

    @model_validator(mode="after")
    def _fractions_add_up(self) -> "SplitParams":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test add up to {total:g}; they must add up to 1")
        if min(self.train, self.val, self.test) == 0:
            raise ValueError("train, val and test must each be more than 0")
        return self


class ModelParams(Section):
    """The ResNet50 backbone: its weights, how many residual blocks are unfrozen, its input and its precision."""

    weights: str = Field(description="`imagenet`, `random`, or a file with Keras's ImageNet weights (`.h5` or `.npz`)")
    unfreeze_blocks: int = Field(
        ge=0, le=RESIDUAL_BLOCKS, description="number of unfrozen residual blocks, counted from the output"
    )
    train_batch_norm: bool = Field(
        description="train scale and shift of BatchNorm in the unfrozen blocks; its statistics stay fixed"
    )
    mirror: bool = Field(
        description="average the logits of an image and its mirror image (test-time flip), in twice the time"
    )
    input_size: Side = Field(description="side of the network's input in pixels; 288 costs 1.65 times as much as 224")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        description="number format of the convolutions: `auto` is bfloat16 if the GPU or processor multiplies in it; "
        "`int8` computes the frozen part in 8 bits by OpenVINO (`make extras`), 1.8 times as fast or, with "
        "VNNI instructions, three times, and the rest in float32"
    )
    known_rate: float = Field(
        gt=0,
        lt=1,
        description="share of validation images that count as known; less similar images are unknown",
    )


class HeadParams(Section):
    """The classifier on the pooled features: hidden Dense layers with ReLU, each followed by dropout, then softmax.

    Features may be normalised first. The last kernel starts at random values, or is fitted to the frozen features.
    """

    units: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(strict=False, max_length=8)] = Field(
        description="widths of the hidden layers; `[]` is a linear head"
    )
    dropout: float = Field(ge=0, lt=1, description="dropout rate after each hidden layer")
    features: Literal["conv5", "conv4+conv5"] = Field(
        description="`conv5`, the 2,048 pooled features of the last stage, or `conv4+conv5`, with 1,024 of the stage "
        "before (needs 0, or 3 and more unfrozen blocks)"
    )
    normalization: Literal["none", "root"] = Field(
        description="of each stage's features: `root` divides them by their mean and takes the square root"
    )
    initialization: Literal["random", "regression", "lda"] = Field(
        description="`random`; or a linear head starts from a logistic `regression` on all augmented views, or from a "
        "linear discriminant analysis (`lda`) of them, which is more accurate with few images of many classes"
    )
    penalty: Positive = Field(
        description="L2 penalty of the regression: the factor of half the sum of the kernel's squares"
    )

    @model_validator(mode="after")
    def _fitted_is_linear(self) -> "HeadParams":
        if self.initialization != "random" and self.units:
            raise ValueError(f"initialization: {self.initialization} makes a linear head; it needs units: []")
        return self


class AugmentationParams(Section):
    """Random augmented views of every training image, drawn once, all of one size; their features are cached."""

    views: int = Field(
        ge=0, le=64, description="augmented views of each training image besides the plain one; an epoch uses one"
    )
    size: Side | None = Field(description="side of the training views in pixels; null: as `model.input_size`")
    flip: bool = Field(description="mirror half of the augmented views")
    min_area: float = Field(gt=0, le=1, description="smallest fraction of the image that a random crop keeps")
    seed: Seed = Field(description="another seed gives other crops and flips")


class TrainParams(Section):
    """The two phases of training: the head alone, then head and unfrozen blocks at a rate of their own."""

    on: Literal["train", "train+val"] = Field(
        description="`train`, or `train+val`: then a fixed number of epochs, without early stopping"
    )
    epochs: int = Field(ge=0, description="most epochs of the head alone; 0 keeps the head as it is initialized")
    fine_tune_epochs: int = Field(ge=0, description="most epochs of head and unfrozen blocks together")
    batch_size: int = Field(ge=1, le=4096, description="images per step")
    learning_rate: Positive = Field(description="learning rate of the head alone")
    fine_tune_learning_rate: Positive = Field(description="learning rate of head and unfrozen blocks together")
    schedule: Literal["constant", "cosine"] = Field(
        description="learning rate during a phase: `constant`, or `cosine`, which falls to 0"
    )
    warmup_epochs: NonNegative = Field(description="epochs at the start of a phase in which the rate rises from 0")
    weight_decay: NonNegative = Field(description="weight decay of AdamW (decoupled); biases do not decay")
    label_smoothing: float = Field(ge=0, lt=1, description="share of the target that is spread over all classes")
    averaging: float = Field(
        ge=0,
        lt=1,
        description="decay of the running average of the weights over the epochs, which is validated and kept",
    )
    class_weights: bool = Field(description="weight the loss so that each class counts the same")
    patience: int = Field(ge=1, description="epochs without a lower validation loss after which a phase ends")
    seed: Seed = Field(description="seed of initial weights, order, choice of views and dropout")


class EvaluateParams(Section):
    """The bootstrap behind the confidence intervals, the size of the gallery, and a test of unknown images."""

    bootstrap_samples: int = Field(ge=100, le=1_000_000, description="resamples for the confidence intervals")
    gallery: int = Field(
        ge=0, le=200, description="misclassified images in the report, the most confident first; 0: none"
    )
    unknown_path: str | None = Field(
        description="absolute path of a folder of images of none of the classes, to test whether they are recognised "
        "as unknown; after a change in it: `dvc repro -f evaluate`"
    )
    seed: Seed = Field(description="seed of the resamples")


class TuneParams(Section):
    """The study: its length, its search space, and the comparison of its best trial with params.yaml."""

    n_trials: int = Field(ge=1, description="trials in total, on all machines")
    repeats: int = Field(ge=1, le=100, description="trainings per trial, from consecutive seeds, with one mean score")
    folds: int = Field(
        ge=1,
        le=100,
        description="folds of train and val, each held out once per seed, with one mean score; 1: only val is",
    )
    pruner: Literal["median", "hyperband", "halving", "none"] = Field(
        description="Optuna pruner, which stops trials that fall behind"
    )
    warmup_epochs: int = Field(ge=0, description="epochs that every trial is given before it can be pruned")
    confirm_seeds: int = Field(
        ge=0, le=100, description="fresh seeds to compare the best trial with `params.yaml`; 0: no comparison"
    )
    seed: Seed = Field(description="seed of the sampler; trainings start from `train.seed`")
    space: dict[str, Dimension] = Field(
        min_length=1,
        description="searched parameters of `model`, `head`, `augmentation` and `train`: `low` and `high` (and `step` "
        "or `log`), or `choices`",
    )

    @field_validator("confirm_seeds")
    @classmethod
    def _spread_needs_two(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one seed has no spread: use 0 (no comparison), or 2 and more")
        return value


class PromoteParams(Section):
    """What a model needs to become champion, besides a better score: `flowers promote`."""

    floors: dict[str, Fraction] = Field(
        description="minimum recall of guarded classes on validation images, such as `{roses: 0.9}`"
    )
    unknown_auroc: Fraction | None = Field(
        description="minimum AUROC of validation images of a class that is left out against the others; null: none"
    )
    probe_photos: int = Field(
        ge=1, le=1000, description="images of the prediction check: predictions must equal those of the evaluation"
    )


def check_together(sections: Any) -> Any:
    """Check values of different sections against each other. Raises ValueError."""
    if sections.train.epochs == 0 and sections.head.initialization == "random":
        raise ValueError("train.epochs: 0 trains no head; it needs head.initialization: regression or lda")
    if sections.head.features == "conv4+conv5" and 0 < sections.model.unfreeze_blocks < CONV5_BLOCKS:
        raise ValueError(f"head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or {CONV5_BLOCKS} and more")
    return sections


class Training(Section):
    """The sections that decide a training: a study searches them, a recipe sets them."""

    model: ModelParams
    head: HeadParams
    augmentation: AugmentationParams
    train: TrainParams

    _together = model_validator(mode="after")(check_together)


class Params(Section):
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
    foreign = params.evaluate.unknown_path
    if foreign is not None and not Path(foreign).is_absolute():
        raise UserError(f"{path}: evaluate.unknown_path: '{foreign}' must be an absolute path, or null")
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
    """The content of `path`, typed; raises UserError that names the file, the keys and what is wrong with them."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UserError(console.listed(validation_errors.explained(model, path, error), "\n", shown=100)) from None


def training_values(settings: Params | Training) -> dict[str, Any]:
    """The values of all keys that decide a training, by dotted names such as 'head.units'."""
    return {f"{section}.{key}": value for section in Training.model_fields for key, value in getattr(settings, section)}

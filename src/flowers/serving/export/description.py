"""What an exported network says of itself: classes, input, threshold and origin, as JSON in its format's metadata."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowers.serving.export import seal

KEY = "flowers"  # the name of the entry in each format's metadata
LABELS = "labels.txt"


class Description(BaseModel):
    """The content of the entry. A class name may hold any character, so it is never in a list with separators."""

    model_config = ConfigDict(frozen=True)

    format: str  # its name in `formats.FORMATS`
    classes: list[str] = Field(min_length=1)  # in the order of the probabilities
    size: int = Field(gt=0)  # of the images, in pixels on each side
    input: str  # the input in words
    output: str = "calibrated probabilities, float32 (n, classes), in the order of the classes"
    threshold: float | None  # lower probabilities are low confidence
    temperature: float  # by which the network divides its logits
    origin: dict[str, str | None]  # run, commit, digests of the model and of the ImageNet weights
    made_with: dict[str, str]  # versions of the packages
    calibrated_on: int | None = None  # training images that gave the ranges of int8
    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 of the files that belong to this one
    seal: str = seal.BLANK

    @property
    def text(self) -> str:
        """As ASCII on one line: some formats' metadata are neither Unicode nor escaped."""
        return self.model_dump_json(ensure_ascii=True)


def read(text: str | bytes | None) -> Description:
    """The description in such a text. Raises ValueError if there is none, or it is another project's."""
    if not text:
        raise ValueError("not a network that `flowers export` wrote: it has no description of its classes")
    try:
        return Description.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its description"
        raise ValueError(f"not a network that `flowers export` wrote: {where}: {first['msg']}") from None


def write_labels(classes: list[str], folder: Path) -> None:
    """Write `labels.txt`: a class a line, in the order of the probabilities; a line break in a name is a space."""
    lines = (" ".join(name.splitlines()) for name in classes)
    (folder / LABELS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")

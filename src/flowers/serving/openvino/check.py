"""Whether a network in int8 still answers like the model that it was made from."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flowers.common import console
from flowers.serving.stream import BATCH, Model
from flowers.training.activation_cache import Item, pixels

LOST = 0.005  # the largest share of the validation photos by which fewer may be right
CHANGED = 0.02  # the largest share of the photos compared whose answer may be another one


@dataclass(frozen=True)
class Checked:
    """What came of asking both models about the same photos, in numbers of photos.

    Of the validation photos were right before: `right_before`; of them are wrong after: `lost`; and are only right
    after: `gained`. `changed` are those of another answer among all that were `compared`: the validation photos, and
    where these are few, training photos too.
    """

    validation: int
    right_before: int
    lost: int
    gained: int
    compared: int
    changed: int

    def __str__(self) -> str:
        before, after = self.right_before, self.right_before - self.lost + self.gained
        return (
            f"{before / self.validation:.1%} of {self.validation} validation photos right before, "
            f"{after / self.validation:.1%} after; "
            f"another answer to {self.changed} of {self.compared} photos ({self.changed / self.compared:.1%})"
        )


@dataclass
class Speed:
    """Seconds that each model took for each full batch but the first, in turns."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    @property
    def gain(self) -> float | None:
        """How many times as fast the second model is; None where there were too few photos to tell.

        By the fastest batch of each: what else the machine does only makes a batch slower.
        """
        return min(self.before) / min(self.after) if len(self.before) >= 3 else None


def refusal(found: Checked) -> str | None:
    """Why the network should not be used, or None where nothing speaks against it.

    At most 0.5 points of the validation photos may be lost, and at most 2 % of the compared photos be answered
    otherwise. One photo alone is too few to tell, though it be more than that. The second rule needs no right answers,
    so where validation photos are few it looks at training photos, too.
    """
    net = found.lost - found.gained
    if net > max(1, LOST * found.validation):
        return (
            f"{net / found.validation:.1%} fewer validation photos are right, more than {LOST:.1%} "
            f"({found.lost} lost, {found.gained} gained)"
        )
    if found.changed > max(1, CHANGED * found.compared):
        return f"{found.changed / found.compared:.1%} of the photos get another answer, more than {CHANGED:.0%}"
    return None


def compare(
    before: Model, after: Model, validation: Sequence[Item], labels: NDArray[np.integer], others: Sequence[Item]
) -> tuple[Checked, Speed]:
    """Ask both models about the validation photos, whose right answers are `labels` (n,), and about other photos.

    Raises UserError where a photo cannot be read.
    """
    speed, answers = Speed(), []
    items = [*validation, *others]
    for number, images in enumerate(_batches(items)):
        both, seconds = zip(*(_answers(model, images) for model in (before, after)), strict=True)
        answers.append(both)
        if number and len(images) == BATCH:  # the first one waits for TensorFlow to trace
            speed.before.append(seconds[0])
            speed.after.append(seconds[1])
    old, new = np.concatenate(answers, axis=1)
    right_before, right_after = (found[: len(validation)] == labels for found in (old, new))
    return (
        Checked(
            validation=len(validation),
            right_before=int(right_before.sum()),
            lost=int((right_before & ~right_after).sum()),
            gained=int((right_after & ~right_before).sum()),
            compared=len(items),
            changed=int((old != new).sum()),
        ),
        speed,
    )


def _batches(items: Sequence[Item]) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(2) as pool, console.progress_bar(len(items), "Comparing", "photos") as bar:
        for start in range(0, len(items), BATCH):
            found = np.stack(list(pool.map(pixels, items[start : start + BATCH])))
            yield found
            bar.update(len(found))


def _answers(model: Model, images: NDArray[np.uint8]) -> tuple[NDArray[np.intp], float]:
    start = time.perf_counter()
    answers = model.probabilities(images).argmax(axis=1)
    return answers, time.perf_counter() - start

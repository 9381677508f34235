"""Stratified folds of the images of train and val: each image is in the validation set of one of them."""

from collections import Counter
from collections.abc import Sequence

from flowers.common.errors import UserError
from flowers.data import near_duplicates
from flowers.training.fitting import Fold
from flowers.training.subsets import Subset


def groups_of(images: Subset) -> list[str]:
    """The group of near-duplicates of each image."""
    return near_duplicates.groups(*(images.table[name].tolist() for name in ("pixels", "phash", "mirrored_phash")))


def divide(images: Subset, groups: Sequence[str], count: int, seed: int) -> list[Fold]:
    """`count` folds with about as many images of each class; groups stay on one side. Another seed, other folds.

    Raises UserError if a class has fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sizes = Counter(label for label, _ in {*zip(images.labels.tolist(), groups, strict=True)})
    fewest = min(sizes, key=lambda label: (sizes[label], label))
    if sizes[fewest] < count:
        raise UserError(
            f"{count} folds need {count} images of each class in train and val, near-duplicates counted once; "
            f"'{images.classes[fewest]}' has {sizes[fewest]}: take fewer folds, or add images"
        )
    divided = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    return [Fold(*rows) for rows in divided.split(images.labels, images.labels, groups)]

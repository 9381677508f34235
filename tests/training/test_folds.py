"""Folds: every image held out once, classes and near-duplicates together."""

import numpy as np
import pandas as pd
import pytest

from flowers.common.errors import UserError
from flowers.training import folds
from flowers.training.subsets import Subset


def images(*sizes) -> Subset:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return Subset(pd.DataFrame({"path": range(len(labels))}), labels, [f"class {n}" for n in range(len(sizes))])


def test_every_image_is_held_out_once_in_stratified_folds_that_keep_groups_together():
    subset = images(30, 15)
    groups = [str(number // 2 * 2) if number < 10 else str(number) for number in range(45)]  # five pairs
    divided = folds.divide(subset, groups, 5, seed=3)
    assert sorted(np.concatenate([fold.val for fold in divided])) == list(range(45))
    for fold in divided:
        assert sorted([*fold.train, *fold.val]) == list(range(45))
        assert not {groups[row] for row in fold.train} & {groups[row] for row in fold.val}
        assert np.bincount(subset.labels[fold.val]).tolist() in ([6, 3], [5, 3], [7, 3])
    again, other = (folds.divide(subset, groups, 5, seed) for seed in (3, 4))
    assert all((one.val == two.val).all() for one, two in zip(divided, again, strict=True))
    assert any(one.val.tolist() != two.val.tolist() for one, two in zip(divided, other, strict=True))


def test_a_class_with_fewer_groups_than_folds_raises_an_error():
    with pytest.raises(UserError, match=r"4 folds need 4 images of each class .* 'class 1' has 3"):
        folds.divide(images(9, 4), [*"abcdefghi", *"jjkl"], 4, seed=0)

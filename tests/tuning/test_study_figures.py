"""The figures of a study, by their pixels, sizes and bytes."""

import math
import random
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from flowers.reporting import figures
from flowers.tuning import study_figures

FIGURES = ("history", "importances", "parallel_coordinates", "slices")
SPACE = {
    "train.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "head.dropout": FloatDistribution(0, 0.6),
    "model.unfreeze_blocks": CategoricalDistribution((0, 1, 3)),
    "head.units": CategoricalDistribution(("[]", "[128]", "[256, 128, 64]")),
    "augmentation.flip": CategoricalDistribution((False, True)),
    "train.batch_size": IntDistribution(8, 128, log=True),
    "train.epochs": IntDistribution(3, 9),
    "train.a_name_that_is_much_longer_than_others": FloatDistribution(3e-4, 4e-4, log=True),
}
ONE = {"head.dropout": SPACE["head.dropout"]}
FEW = dict(list(SPACE.items())[:3])
SHARES = {"train.learning_rate": 0.7, "head.dropout": 0.3}


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def trial(number, score, state=TrialState.COMPLETE, space=ONE):
    """A trial with random values of the space, the same for the same number."""
    rng = random.Random(number)
    params = {}
    for name, each in space.items():
        if isinstance(each, CategoricalDistribution):
            params[name] = rng.choice(each.choices)
        elif isinstance(each, IntDistribution):
            params[name] = rng.randint(each.low, each.high)
        else:
            params[name] = min(each.high, math.exp(rng.uniform(math.log(each.low + 1e-9), math.log(each.high))))
    made = create_trial(state=state, value=score, params=params, distributions=space)
    made.number = number
    return made


def study(n=8, best=5, space=FEW):
    """Trial 2 was pruned, 3 failed, the last one still runs."""
    trials = [trial(k, 0.95 if k == best else 0.9 - 0.01 * (k % 4), space=space) for k in range(n)]
    trials[2] = trial(2, 0.88, TrialState.PRUNED, space)
    trials[3] = trial(3, None, TrialState.FAIL, space)
    return [*trials, trial(n, None, TrialState.RUNNING, space)]


def drawn(folder, trials, importances=SHARES):
    study_figures.draw(trials, importances, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.png" for name in FIGURES)
    return {name: (folder / f"{name}.png").read_bytes() for name in FIGURES}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("usual"), study())


def pixels(folder, name):
    with Image.open(folder / f"{name}.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def area(folder, name, colour):
    """The number of pixels that are near a colour."""
    wanted = np.array(to_rgb(colour)) * 255
    return int((np.abs(pixels(folder, name) - wanted).max(axis=2) < 20).sum())


def size(folder, name):
    with Image.open(folder / f"{name}.png") as image:
        return image.size


def test_equal_studies_have_equal_figures_in_any_order_and_with_any_matplotlibrc(usual, tmp_path):
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 40}):
        two = drawn(tmp_path, study()[::-1])
    assert usual == two
    for name in FIGURES:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert set(image.info) <= {"dpi"}


def test_the_best_trial_is_marked_in_all_figures_of_trials(usual, tmp_path):
    other = drawn(tmp_path, study(best=6))
    assert {name for name in FIGURES if usual[name] != other[name]} == set(FIGURES) - {"importances"}
    for name in ("history", "parallel_coordinates", "slices"):
        assert area(tmp_path, name, figures.ORANGE) > 100


def test_running_and_waiting_trials_do_not_appear_and_failed_ones_only_in_the_history(usual, tmp_path):
    waiting = trial(99, None, TrialState.WAITING, {})
    assert drawn(tmp_path, [*study()[:-1], waiting]) == usual
    other = drawn(tmp_path, [each for each in study() if each.state != TrialState.FAIL])
    assert {name for name in FIGURES if usual[name] != other[name]} == {"history"}


def test_a_very_low_score_does_not_compress_the_others(usual, tmp_path):
    """Below the axis, 10 and 20 % give the same figure."""
    hopeless = [
        drawn(tmp_path / str(score), [*study()[:8], trial(8, score, space=FEW)])["history"] for score in (0.1, 0.2)
    ]
    assert hopeless[0] == hopeless[1] != usual["history"]


def test_a_logarithmic_range_has_a_logarithmic_axis(tmp_path):
    """0.001 is in the middle of 0.0001 to 0.01, like 0.5 of 0 to 1."""

    def middle(distribution, value):
        one = create_trial(value=0.9, params={"x": value}, distributions={"x": distribution})
        drawn(tmp_path / str(value), [one], {})
        near = np.abs(pixels(tmp_path / str(value), "slices") - np.array(to_rgb(figures.ORANGE)) * 255).max(axis=2) < 20
        return np.argwhere(near)[:, 1].max()  # right of the legend's dot

    assert middle(FloatDistribution(1e-4, 1e-2, log=True), 1e-3) == pytest.approx(
        middle(FloatDistribution(0, 1), 0.5), abs=5
    )


def test_bars_are_as_long_as_the_shares(tmp_path):
    def bars(shares):
        drawn(tmp_path / "b", study(), shares)
        wanted = np.array(to_rgb(figures.BLUE)) * 255
        lengths = (np.abs(pixels(tmp_path / "b", "importances") - wanted).max(axis=2) < 20).sum(axis=1)
        runs = np.split(lengths, np.flatnonzero(lengths == 0))
        return [int(np.median(run[1:])) for run in runs if len(run) > 10]

    long, short = bars({"head.dropout": 0.2, "train.learning_rate": 0.8})  # the longer on top
    assert long / short == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize(
    ("trials", "importances"),
    [
        (study(), {}),
        (
            [trial(0, 0.9), trial(1, 0.9)],
            {"head.dropout": 0.5, "train.learning_rate": 0.5},
        ),  # as Optuna returns
    ],
)
def test_without_meaningful_importances_the_figure_has_words_instead_of_bars(trials, importances, tmp_path):
    drawn(tmp_path, trials, importances)
    assert area(tmp_path, "importances", figures.BLUE) == 0
    assert area(tmp_path, "importances", figures.INK) > 100


@pytest.mark.parametrize("trials", [[], study()[2:4]])
def test_without_a_completed_trial_all_figures_are_a_sentence(trials, tmp_path):
    assert len(set(drawn(tmp_path, trials, {}).values())) == 1
    assert area(tmp_path, "history", figures.INK) > 100


@pytest.mark.parametrize(("score", "n"), [(0.0, 1), (1.0, 3)])
def test_one_trial_or_equal_scores_are_drawn(score, n, tmp_path):
    drawn(tmp_path, [trial(k, score) for k in range(n)])
    for name in ("history", "parallel_coordinates", "slices"):
        assert area(tmp_path, name, figures.ORANGE) > 100


def test_parameters_of_a_single_value_or_with_odd_choices_are_drawn(tmp_path):
    space = {
        "float": FloatDistribution(0.1, 0.1),
        "log": FloatDistribution(0.1, 0.1, log=True),
        "int": IntDistribution(4, 4),
        "choice": CategoricalDistribution(("[128]",)),
        "odd": CategoricalDistribution((None, "a $^$ name", "x" * 300)),
    }
    drawn(tmp_path, [trial(k, 0.8 + k / 100, space=space) for k in range(3)], {"float": 1.0})
    assert area(tmp_path, "slices", figures.ORANGE) > 5 * 100  # the best in each panel
    assert max(size(tmp_path, "parallel_coordinates")) < 3000  # a long choice is cut


def test_two_hundred_trials_of_eight_parameters_fit_on_a_page(tmp_path):
    drawn(tmp_path, study(200, 77, SPACE), dict.fromkeys(SPACE, 0.125))
    for name in FIGURES:
        assert 300 < max(size(tmp_path, name)) < 3000
    assert size(tmp_path, "slices")[1] > 2 * 300  # two rows of panels

"""Whether the best trial is better than params.yaml: what is compared, and that no training is repeated."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from flowers.tuning import verdict
from flowers.tuning.study import Study
from flowers.tuning.worker import Stop

SEEDS = [1, 2, 3]  # fresh ones, with one repeat from seed 0
CURRENT = {"head.dropout": 0.1, "train.learning_rate": 0.003}


class Trainer:
    """In the place of the one that trains: the score is 0.5, the seed in hundredths, and what the winner adds."""

    def __init__(self, gain: float = 0.2, watch=lambda count: None) -> None:
        """`watch` is called before each epoch, of which each training has one, with the number of trainings begun."""
        self.trained, self._gain, self._watch = [], gain, watch

    def fit(self, settings, seed, fold, on_epoch):
        dropout = settings.head.dropout
        self.trained.append((dropout, seed))
        self._watch(len(self.trained))
        on_epoch({"epoch": 0})
        return SimpleNamespace(best_score=(self.score(dropout, seed), -0.5))

    def score(self, dropout: float, seed: int) -> float:
        return 0.5 + seed / 100 + (0 if dropout == CURRENT["head.dropout"] else self._gain)


@pytest.fixture
def study(begin):
    """Begin or resume a study that confirms with three seeds, or as `tune` says."""
    return lambda **tune: begin(tune={"confirm_seeds": 3} | tune)


def with_scores(study: Study, *scores: float | tuple[float, ...] | None) -> Study:
    """Tell a study the scores of its next trials, of each seed if there are several; None: it failed."""
    for score in scores:
        trial = study.next_trial(100)
        if score is None:
            study.fail(trial, "no memory")
        else:
            study.complete(trial, [score] if isinstance(score, float) else score, 0)
    return study


def dropout(study: Study, number: int) -> float:
    return study.trials()[number].params["head.dropout"]


def test_the_margin_is_half_of_scipys_interval():
    random = np.random.default_rng(0)
    for counts in ((2, 2), (3, 5), (6, 2)):
        one, other = (random.normal(0.8, 0.1, count).tolist() for count in counts)
        interval = scipy.stats.ttest_ind(one, other).confidence_interval(0.95)
        assert verdict.Verdict(None, {}, None, one, other).margin == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize("scores", [([0.5], [0.5, 0.6, 0.7]), ([], [])])
def test_the_margin_needs_two_seeds_of_each(scores):
    assert verdict.Verdict(None, {}, None, *scores).margin is None


def test_best_and_current_parameters_are_trained_from_the_same_fresh_seeds(study):
    ours, trainer = with_scores(study(), 0.5, 0.6, 0.9, 0.7), Trainer()
    found = verdict.reach(ours, trainer, Stop())
    assert sorted(trainer.trained) == sorted((value, seed) for value in (0.1, dropout(ours, 2)) for seed in SEEDS)
    assert found.best.number == 2
    assert found.current == CURRENT
    assert found.current_score == 0.5
    assert found.current_scores == pytest.approx([0.51, 0.52, 0.53])
    assert found.best_scores == pytest.approx([0.71, 0.72, 0.73])
    assert found.difference == pytest.approx(0.2)
    assert found.margin == pytest.approx(2.776445 * 0.01 * (2 / 3) ** 0.5)
    assert found.fresh and not found.is_current


def test_no_trial_started_from_a_fresh_seed(begin):
    from flowers.tuning import worker

    ours = begin(tune={"confirm_seeds": 2, "repeats": 3}, train={"seed": 5})
    trainer = Trainer()
    verdict.reach(with_scores(ours, (0.5, 0.6, 0.7), (0.8, 0.9, 1.0)), trainer, Stop())
    seeds = {seed for _, seed in trainer.trained}
    assert seeds == {8, 9}
    assert seeds.isdisjoint(seed for seed, _ in worker.trainings(ours.space.settings))


def test_nothing_is_trained_if_params_yaml_holds_the_best_values(study):
    trainer = Trainer()
    found = verdict.reach(with_scores(study(), 0.9, 0.5), trainer, Stop())
    assert found.is_current
    assert (found.best.number, found.current_score) == (0, 0.9)
    assert trainer.trained == []


def test_of_equal_scores_the_earlier_trial_is_the_best(study):
    assert verdict.read(with_scores(study(), 0.5, 0.9, 0.9)).best.number == 1
    assert verdict.read(with_scores(study(), 0.8)).best.number == 1  # goes on with the same study


def test_without_a_completed_trial_there_is_nothing_to_compare(study):
    ours, trainer = study(), Trainer()
    assert verdict.reach(ours, trainer, Stop()) is None
    assert verdict.reach(with_scores(ours, None, None), trainer, Stop()) is None
    assert trainer.trained == []


def test_current_parameters_outside_of_the_space_are_trained_too(begin):
    ours = begin(tune={"confirm_seeds": 2}, head={"dropout": 0.7})  # beyond the space
    trainer = Trainer()
    found = verdict.reach(with_scores(ours, 0.5, 0.8), trainer, Stop())
    assert found.current_score is None
    assert sorted(trainer.trained) == sorted((value, seed) for value in (0.7, dropout(ours, 1)) for seed in (1, 2))
    assert len(found.current_scores) == len(found.best_scores) == 2


def test_scores_of_fresh_seeds_are_stored_in_the_study(study):
    first = verdict.reach(with_scores(study(), 0.5, 0.9), Trainer(), Stop())
    idle = Trainer(gain=0.4)
    for found in (verdict.reach(study(), idle, Stop()), verdict.read(study())):
        assert (found.best_scores, found.current_scores) == (first.best_scores, first.current_scores)
    assert idle.trained == []


def test_another_best_trial_is_compared_with_the_stored_scores_of_the_current_parameters(study):
    ours = with_scores(study(), 0.5, 0.8)
    verdict.reach(ours, Trainer(), Stop())
    trainer = Trainer(gain=0.3)
    found = verdict.reach(with_scores(study(), 0.9), trainer, Stop())
    assert found.best.number == 2
    assert trainer.trained == [(dropout(ours, 2), seed) for seed in SEEDS]
    assert found.current_scores == pytest.approx([0.51, 0.52, 0.53])
    assert found.best_scores == pytest.approx([0.81, 0.82, 0.83])


def test_an_interrupted_comparison_is_resumed(study):
    stop = Stop()
    first = Trainer(watch=lambda count: setattr(stop, "requested", count == 5))  # the best trial's second
    found = verdict.reach(with_scores(study(), 0.5, 0.9), first, stop)
    assert len(first.trained) == 5
    assert (len(found.best_scores), len(found.current_scores)) == (1, 1)  # the seeds that both have
    assert found.margin is None

    second = Trainer()
    found = verdict.reach(study(), second, Stop())
    assert second.trained == [first.trained[4], (first.trained[4][0], 3)]
    assert found.best_scores == pytest.approx([0.71, 0.72, 0.73])


def test_a_training_that_fails_is_a_warning(study, capsys):
    def fail(count: int) -> None:
        if count == 3:
            raise RuntimeError("out of memory")

    ours = with_scores(study(), 0.5, 0.9)
    found = verdict.reach(ours, Trainer(watch=fail), Stop())
    assert "warning: the best trial could not be compared with params.yaml: out of memory" in capsys.readouterr().err
    assert (found.best.number, found.best.value) == (1, 0.9)
    again = Trainer()
    assert len(verdict.reach(ours, again, Stop()).best_scores) == 3
    assert len(again.trained) == 4


def test_a_training_that_diverges_counts_as_0_and_is_not_repeated(study, capsys):
    from flowers.training.phases import Diverged

    def diverge(count: int) -> None:
        if count == 5:  # the best trial's second
            raise Diverged("the loss became nan")

    ours = with_scores(study(), 0.5, 0.9)
    found = verdict.reach(ours, Trainer(watch=diverge), Stop())
    assert "seed 2: the loss became nan; its score counts as 0" in capsys.readouterr().err
    assert found.best_scores == pytest.approx([0.71, 0, 0.73])
    idle = Trainer()
    assert verdict.reach(ours, idle, Stop()) == found
    assert idle.trained == []


def test_a_training_of_another_machine_is_not_repeated(study):
    other = study()
    ours = with_scores(study(), 0.5, 0.9)
    idle = Trainer()

    def other_machine(count: int) -> None:
        if count == 1:
            verdict.reach(other, Trainer(), Stop())

    trainer = Trainer(watch=other_machine)
    found = verdict.reach(ours, trainer, Stop())
    assert len(trainer.trained) == 1
    assert (len(found.best_scores), len(found.current_scores)) == (3, 3)
    assert verdict.reach(other, idle, Stop()) == found
    assert idle.trained == []


@pytest.mark.parametrize(
    ("repeats", "current", "winner", "noise"),
    [(1, (0.5,), (0.9,), None), (2, (0.5, 0.52), (0.9, 0.94), 4.302653 * (0.001 / 2) ** 0.5)],
)
def test_without_fresh_seeds_the_trials_own_scores_are_compared(study, repeats, current, winner, noise):
    trainer = Trainer()
    found = verdict.reach(with_scores(study(confirm_seeds=0, repeats=repeats), current, winner), trainer, Stop())
    assert trainer.trained == []
    assert (tuple(found.current_scores), tuple(found.best_scores)) == (current, winner)
    assert not found.fresh
    assert found.difference == pytest.approx(np.mean(winner) - np.mean(current))
    assert found.margin == (None if noise is None else pytest.approx(noise))

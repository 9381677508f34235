"""Whether a winner is better than noise: what is compared, what is trained for it; and nothing is trained twice."""

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

    def fit(self, settings, seed, on_epoch):
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


def told(study: Study, *scores: float | tuple[float, ...] | None) -> Study:
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


def test_noise_is_half_of_students_interval_of_the_difference():
    # Sums of squares 0.0008 each, 4 degrees of freedom: t is 2.776445, the error sqrt(0.0004 * 2 / 3).
    assert verdict.margin([0.90, 0.92, 0.94], [0.80, 0.82, 0.84]) == pytest.approx(2.776445 * 0.01632993)


def test_noise_is_that_of_scipy_for_any_number_of_seeds():
    random = np.random.default_rng(0)
    for counts in ((2, 2), (3, 5), (6, 2)):
        one, other = (random.normal(0.8, 0.1, count).tolist() for count in counts)
        interval = scipy.stats.ttest_ind(one, other).confidence_interval(0.95)
        assert verdict.margin(one, other) == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize("scores", [([0.5], [0.5]), ([0.5], [0.5, 0.6, 0.7]), ([], [0.5, 0.6]), ([], [])])
def test_noise_needs_two_seeds_of_each(scores):
    assert verdict.margin(*scores) is None


def test_equal_scores_have_no_noise():
    assert verdict.margin([0.5, 0.5], [0.75, 0.75]) == 0


def test_winner_and_current_parameters_are_trained_from_the_same_fresh_seeds(study):
    ours, trainer = told(study(), 0.5, 0.6, 0.9, 0.7), Trainer()
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


def test_a_winner_that_has_only_been_lucky_is_found_out(study):
    found = verdict.reach(told(study(), 0.5, 0.9), Trainer(gain=-0.005), Stop())
    assert found.difference == pytest.approx(-0.005)
    assert abs(found.difference) < found.margin


def test_fresh_seeds_are_none_that_a_trial_started_from(begin):
    from flowers.tuning import worker

    ours = begin(tune={"confirm_seeds": 2, "repeats": 3}, train={"seed": 5})
    trainer = Trainer()
    verdict.reach(told(ours, (0.5, 0.6, 0.7), (0.8, 0.9, 1.0)), trainer, Stop())
    seeds = {seed for _, seed in trainer.trained}
    assert seeds == {8, 9}
    assert seeds.isdisjoint(worker.seeds(ours.space.settings))


def test_where_params_yaml_holds_the_winner_nothing_is_trained(study):
    trainer = Trainer()
    found = verdict.reach(told(study(), 0.9, 0.5), trainer, Stop())
    assert found.is_current
    assert (found.best.number, found.current_score) == (0, 0.9)
    assert trainer.trained == []


def test_of_equal_scores_the_earlier_trial_wins(study):
    assert verdict.read(told(study(), 0.5, 0.9, 0.9)).winner.number == 1
    assert verdict.read(told(study(), 0.8)).winner.number == 1  # goes on with the same study


def test_without_a_completed_trial_there_is_nothing_to_compare(study):
    ours, trainer = study(), Trainer()
    assert verdict.reach(ours, trainer, Stop()) is None
    assert verdict.reach(told(ours, None, None), trainer, Stop()) is None
    assert trainer.trained == []


def test_trials_that_did_not_complete_do_not_win(study):
    ours = told(study(), 0.5, 0.6)
    pruned = ours.next_trial(3)
    pruned.report(0.99, 0)
    ours.prune(pruned)
    assert verdict.read(told(ours, None)).winner.number == 1


def test_current_parameters_that_no_trial_had_are_trained_all_the_same(begin):
    ours = begin(tune={"confirm_seeds": 2}, head={"dropout": 0.7})  # beyond the space
    trainer = Trainer()
    found = verdict.reach(told(ours, 0.5, 0.8), trainer, Stop())
    assert found.current_score is None
    assert sorted(trainer.trained) == sorted((value, seed) for value in (0.7, dropout(ours, 1)) for seed in (1, 2))
    assert len(found.current_scores) == len(found.best_scores) == 2


def test_what_a_seed_gave_is_kept_for_whoever_asks(study):
    first = verdict.reach(told(study(), 0.5, 0.9), Trainer(), Stop())
    idle = Trainer(gain=0.4)
    for found in (verdict.reach(study(), idle, Stop()), verdict.read(study())):
        assert (found.best_scores, found.current_scores) == (first.best_scores, first.current_scores)
    assert idle.trained == []


def test_another_winner_is_compared_with_what_the_current_parameters_gave_before(study):
    ours = told(study(), 0.5, 0.8)
    verdict.reach(ours, Trainer(), Stop())
    trainer = Trainer(gain=0.3)
    found = verdict.reach(told(study(), 0.9), trainer, Stop())
    assert found.best.number == 2
    assert trainer.trained == [(dropout(ours, 2), seed) for seed in SEEDS]
    assert found.current_scores == pytest.approx([0.51, 0.52, 0.53])
    assert found.best_scores == pytest.approx([0.81, 0.82, 0.83])


def test_lists_among_the_searched_values_are_kept_apart(begin):
    space = {"head.units": {"choices": [[8], [], [4, 4]]}}
    trainer = Trainer()
    for _ in range(2):
        found = verdict.reach(told(begin(tune={"confirm_seeds": 2, "space": space}), 0.5, 0.6), trainer, Stop())
        assert len(found.best_scores) == 2
    assert found.current == {"head.units": "[8]"}
    assert len(trainer.trained) == 4


def test_more_seeds_are_added_to_those_that_are_there(study):
    verdict.reach(told(study(confirm_seeds=2), 0.5, 0.9), Trainer(), Stop())
    trainer = Trainer()
    found = verdict.reach(study(confirm_seeds=3), trainer, Stop())
    assert [seed for _, seed in trainer.trained] == [3, 3]
    assert found.best_scores == pytest.approx([0.71, 0.72, 0.73])


def test_an_interruption_keeps_what_was_trained_and_the_next_command_the_rest(study):
    stop = Stop()
    first = Trainer(watch=lambda count: setattr(stop, "requested", count == 5))  # the winner's second
    found = verdict.reach(told(study(), 0.5, 0.9), first, stop)
    assert len(first.trained) == 5
    assert (len(found.best_scores), len(found.current_scores)) == (1, 1)  # the seeds that both have
    assert found.margin is None

    second = Trainer()
    found = verdict.reach(study(), second, Stop())
    assert second.trained == [first.trained[4], (first.trained[4][0], 3)]
    assert found.best_scores == pytest.approx([0.71, 0.72, 0.73])


def test_other_parameters_in_params_yaml_are_compared_with_what_the_winner_gave_before(begin):
    verdict.reach(told(begin(tune={"confirm_seeds": 3}), 0.5, 0.9), Trainer(), Stop())
    ours, stop = begin(tune={"confirm_seeds": 3}, head={"dropout": 0.2}), Stop()
    trainer = Trainer(watch=lambda count: setattr(stop, "requested", count == 2))
    found = verdict.reach(ours, trainer, stop)
    assert found.current["head.dropout"] == 0.2
    assert trainer.trained == [(0.2, 1), (0.2, 2)]
    assert (len(found.best_scores), len(found.current_scores)) == (1, 1)


def test_an_interruption_between_two_trainings_begins_no_other(study):
    stop = Stop()
    stop.requested = True
    trainer = Trainer()
    found = verdict.reach(told(study(), 0.5, 0.9), trainer, stop)
    assert trainer.trained == []
    assert (found.best.number, list(found.best_scores)) == (1, [])


def test_a_training_that_fails_is_told_and_what_is_known_is_kept(study, capsys):
    def fail(count: int) -> None:
        if count == 3:
            raise RuntimeError("out of memory")

    ours = told(study(), 0.5, 0.9)
    found = verdict.reach(ours, Trainer(watch=fail), Stop())
    assert "warning: the winner could not be confirmed: out of memory" in capsys.readouterr().err
    assert (found.best.number, found.best.value) == (1, 0.9)
    again = Trainer()
    assert len(verdict.reach(ours, again, Stop()).best_scores) == 3
    assert len(again.trained) == 4


def test_a_training_that_diverges_counts_as_nothing_learnt_and_is_not_tried_again(study, capsys):
    from flowers.training.phases import Diverged

    def diverge(count: int) -> None:
        if count == 5:  # the winner's second
            raise Diverged("the loss became nan")

    ours = told(study(), 0.5, 0.9)
    found = verdict.reach(ours, Trainer(watch=diverge), Stop())
    assert "from seed 2, the loss became nan: it counts as 0" in capsys.readouterr().err
    assert found.best_scores == pytest.approx([0.71, 0, 0.73])
    idle = Trainer()
    assert verdict.reach(ours, idle, Stop()) == found
    assert idle.trained == []


def test_what_another_machine_has_trained_meanwhile_is_not_trained_here(study):
    other = study()
    ours = told(study(), 0.5, 0.9)
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
def test_without_fresh_seeds_the_trials_own_are_compared(study, repeats, current, winner, noise):
    trainer = Trainer()
    found = verdict.reach(told(study(confirm_seeds=0, repeats=repeats), current, winner), trainer, Stop())
    assert trainer.trained == []
    assert (tuple(found.current_scores), tuple(found.best_scores)) == (current, winner)
    assert not found.fresh
    assert found.difference == pytest.approx(np.mean(winner) - np.mean(current))
    assert found.margin == (None if noise is None else pytest.approx(noise))


def test_without_fresh_seeds_and_a_trial_of_the_current_parameters_nothing_can_be_told(begin):
    ours = begin(tune={"repeats": 2}, head={"dropout": 0.7})
    found = verdict.reach(told(ours, (0.5, 0.6), (0.8, 0.9)), Trainer(), Stop())
    assert found.margin is None
    assert list(found.current_scores) == []

"""`flowers tune` from end to end: begin or resume a study, train its trials, compare, publish, and apply."""

import tempfile
from pathlib import Path

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config import edit
from flowers.config.params import Params
from flowers.tracking.studies import StudyRuns
from flowers.tuning import screen, study_figures, summary, trial_table, verdict, worker
from flowers.tuning.options import Options
from flowers.tuning.space import Space, decoded
from flowers.tuning.storage import Storage
from flowers.tuning.study import Study
from flowers.tuning.worker import Stop, Trainer

_STOPPING = "Stopping after this epoch; the study can be resumed. (Ctrl-C again: stop now)"
INTERRUPTED = 130  # the exit status that shells give to Ctrl-C


def tune(settings: Params, options: Options) -> int:
    """Search until `n_trials` trials have ended, and print the result; returns the exit status.

    Raises UserError where the space, the storage or the study cannot be used, or no trial was completed.
    """
    if settings.train.on != "train":
        raise UserError("params.yaml: train.on must be 'train' for a study: it needs validation images")
    space = Space(settings)
    if options.apply and not options.force:
        edit.refuse(edit.uncommitted(space.names))
    study = Study(Storage(options.storage), space, options.study, options.new)
    trainer, stop = Trainer(space), Stop()
    if not study.finished(options.n_trials):
        ended = sum(trial.state.is_finished() for trial in study.trials())
        folds = f", {settings.tune.folds} folds of train and val" if settings.tune.folds > 1 else ""
        verb = f"Resuming (after {ended} trials)" if ended else "Starting"
        console.say(f"{verb} study '{study.name}' in {study.storage.shown}{folds}")
        trainer.prepare(settings)  # outside of `listening`: Ctrl-C ends the extraction at once
    with stop.listening(_STOPPING):
        runs = _runs(study)
        if not study.finished(options.n_trials):
            with screen.showing(study, options.n_trials):
                worker.work(study, trainer, runs, options.n_trials, stop)
        importances = study.importances()  # seconds after hundreds of trials
        _publish(study, runs, importances, options.n_trials)
        found = verdict.read(study) if stop.requested else verdict.reach(study, trainer, stop)
        if found is not None:
            runs.note(summary.note(study, found, importances, options))
    summary.show(study, found, importances, options)
    if stop.requested:
        return INTERRUPTED
    if found is None:
        raise UserError(f"no trial of study '{study.name}' was completed: {summary.reasons(study)}")
    if options.apply and not found.is_current:
        edit.write({name: decoded(value) for name, value in found.best.params.items()})
        console.say("params.yaml now holds the best trial's values. Train with them: dvc repro")
    return 0


def _runs(study: Study) -> StudyRuns:
    """The study's runs in MLflow."""
    tune = study.space.settings.tune
    described = {f"tune.space.{name}": words for name, words in study.space.described().items()}
    described |= {f"tune.{name}": str(getattr(tune, name)) for name in ("pruner", "repeats", "folds", "seed")}
    return StudyRuns(study.uid, study.name, study.key, described, study.space.settings, study.storage.exclusive)


def _publish(study: Study, runs: StudyRuns, importances: dict[str, float], n_trials: int) -> None:
    """Write the table of trials and the figures, and put them and all trials on the study's runs in MLflow."""
    trials = study.trials()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = trial_table.table(trials, study.space.names)
        table.to_csv(folder / "trials.csv", index=False)
        study_figures.draw(trials, importances, folder)
        status = "FINISHED" if study.finished(n_trials) else "KILLED"
        runs.finish(trial_table.facts(trials, study.space), {"trials": table}, folder, status)

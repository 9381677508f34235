"""A study of 20 trials, compared with a usual Keras script for each of them, and the share of Optuna and MLflow.

    python benchmarks/study.py --photos /photos/oxford102      # {train,val,test}/<class>/<file> or <class>/<file>
    python benchmarks/study.py --photos ... --epochs 2 --trials 6 --only mixed

Four studies, each in a process of its own, timed from its start to its end with imports, figures and MLflow:
mixed (depths 0, 1 and 3, enqueued 7, 7 and 6 of 20; no pruning; from an empty cache), pruned (the same trials with the
median pruner), head (the head alone) and long (50 short trials, for the memory). The trials of the usual script are
scaled from one epoch at each depth, as in `make bench`. Prints a table and writes benchmarks/results/study.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scratch

DEPTHS = (0, 1, 3)
SHARES = (7, 7, 6)
LONG = 50
STUDIES = ("mixed", "pruned", "head", "long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of images")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10, help="of the head, and of fine-tuning, at most")
    parser.add_argument("--only", nargs="+", choices=(*STUDIES, "usual"), default=(*STUDIES, "usual"))
    parser.add_argument("--units", type=int, nargs="*", help="hidden layers of the head (those of params.yaml)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure[0], int(given.measure[1]))))
        return
    if given.photos is None:
        parser.error("--photos is needed")
    with tempfile.TemporaryDirectory(prefix="flowers-study-") as work:
        found: dict[str, Any] = {name: one(Path(work).resolve(), name, given) for name in given.only}
    report(found, given)


def one(work: Path, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in the checkout of the first one."""
    folder, variables = work / "checkout", scratch.environment(work / "cache")
    if not folder.exists():
        scratch.copy_checkout(folder)
        scratch.write_params(folder, {"dataset.path": str(given.photos.resolve())})
        for stage in ("download", "split"):
            scratch.run([sys.executable, "-m", "flowers", stage], folder, variables)
    changes = {
        "dataset.path": str(given.photos.resolve()),
        "train.epochs": 3 if name == "long" else given.epochs,
        "train.fine_tune_epochs": 1 if name == "long" else given.epochs,
        "train.patience": given.epochs,
        "tune.pruner": "median" if name == "pruned" else "none",
        "tune.confirm_seeds": 0,
    }
    if given.units is not None:
        changes["head.units"] = given.units
    scratch.write_params(folder, changes)
    start = time.perf_counter()
    if name == "usual":
        found: dict[str, Any] = {str(depth): usual_epoch(folder, variables, depth) for depth in DEPTHS}
    else:
        trials = LONG if name == "long" else given.trials
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, str(trials)]
        found = json.loads(scratch.run(command, folder, variables).splitlines()[-1])
    found["wall"] = time.perf_counter() - start
    print(f"{name}: {found['wall']:.0f} s", file=sys.stderr, flush=True)
    return found


def usual_epoch(folder: Path, variables: dict[str, str], depth: int) -> dict[str, Any]:
    arguments = json.dumps({"unfreeze_blocks": depth, "count": 1})
    bench = Path(__file__).with_name("bench.py")
    command = [sys.executable, str(bench), "--measure", "measure_usual:epochs", arguments]
    found: dict[str, Any] = json.loads(scratch.run(command, folder, variables).splitlines()[-1])
    return found


def measure(name: str, trials: int) -> dict[str, Any]:
    """A study in the current folder: its parts in seconds, its trials, and the memory after each of them."""
    from flowers.config import params
    from flowers.training import fitting
    from flowers.tuning import run
    from flowers.tuning.options import Options
    from flowers.tuning.space import Space
    from flowers.tuning.storage import Storage
    from flowers.tuning.study import Study

    settings = params.load()
    if name == "head":
        space = {key: value for key, value in settings.tune.space.items() if key != "model.unfreeze_blocks"}
        settings = settings.model_copy(update={"tune": settings.tune.model_copy(update={"space": space})})
    study = Study(Storage(), Space(settings), name)
    if name != "head":
        for depth in enqueued(trials)[1:]:  # the first trial has the values of params.yaml, with no block unfrozen
            study._study.enqueue_trial({"model.unfreeze_blocks": depth})
    spent, memory = overhead(), []
    extraction = timed(fitting.Data, "__init__")
    begun = Study.next_trial

    def next_trial(*arguments: Any) -> Any:
        memory.append(anonymous_memory())
        return begun(*arguments)

    Study.next_trial = next_trial  # type: ignore[method-assign,assignment]
    status = run.tune(settings, Options(trials, study=name))
    ended = list(study.trials())
    return {
        "status": status,
        "extraction": sum(extraction),
        "overhead": sum(spent),
        "memory": memory,
        "seconds": [(trial.datetime_complete - trial.datetime_start).total_seconds() for trial in ended],
        "scores": [list(trial.intermediate_values.values()) for trial in ended],
        "states": [trial.state.name for trial in ended],
        "depths": [trial.params.get("model.unfreeze_blocks", 0) for trial in ended],
        "best": max(trial.value for trial in ended if trial.state.name == "COMPLETE"),
    }


def enqueued(trials: int) -> list[int]:
    """The depths of the trials in turn, each as often as its share requires."""
    left = {depth: round(share * trials / sum(SHARES)) for depth, share in zip(DEPTHS, SHARES, strict=True)}
    found: list[Any] = []
    while len(found) < trials:
        turn = [depth for depth in DEPTHS if left[depth] > 0] or [DEPTHS[0]]
        for depth in turn:
            left[depth] -= 1
        found += turn
    return found[:trials]


def overhead() -> list[float]:
    """Seconds of Optuna and MLflow in the main thread, one per call; a nested call is counted once."""
    from optuna.trial import Trial

    from flowers.tracking.live import Stream
    from flowers.tracking.studies import StudyRuns
    from flowers.tuning import study_figures
    from flowers.tuning.study import Study

    spent: list[float] = []
    inside = [False]
    for owner, names in (
        (Study, ("next_trial", "complete", "prune", "fail", "trials", "finished", "importances")),
        (Trial, ("report", "should_prune")),
        (Stream, ("__init__", "on_epoch", "close")),
        (StudyRuns, ("__init__", "note_score", "finish")),
        (study_figures, ("draw",)),
    ):
        for name in names:
            timed(owner, name, spent, inside)
    return spent


def timed(owner: object, name: str, spent: list[float] | None = None, inside: list[bool] | None = None) -> list[float]:
    """Wrap a function so that it records the seconds of each call."""
    spent, inside = [] if spent is None else spent, [False] if inside is None else inside
    function: Callable[..., Any] = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if inside[0] or threading.current_thread() is not threading.main_thread():
            return function(*arguments, **named)
        inside[0], start = True, time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            inside[0] = False
            spent.append(time.perf_counter() - start)

    setattr(owner, name, call)
    return spent


def anonymous_memory() -> float:
    """Anonymous memory of this process, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def report(found: dict[str, Any], given: argparse.Namespace) -> None:
    lines = []
    mixed, usual = found.get("mixed"), found.get("usual")
    if mixed:
        lines.append(
            f"mixed: {mixed['wall']:.0f} s, of which extraction {mixed['extraction']:.0f} s; {by_depth(mixed)}"
        )
        trials = len(mixed["seconds"])
        share, each = mixed["overhead"] / mixed["wall"], mixed["overhead"] / trials
        lines.append(f"Optuna, MLflow and figures: {share:.1%} of it, {each:.3f} s a trial; best {mixed['best']:.4f}")
    if mixed and usual:
        theirs = sum(usual_trial(usual[str(depth)], given.epochs) for depth in mixed["depths"])
        epochs = ", ".join(f"{depth}: {usual[str(depth)]['epochs'][0]:.1f} s" for depth in DEPTHS)
        lines.append(
            f"usual script: {theirs:.0f} s (epochs by depth {epochs}): {theirs / mixed['wall']:.1f} times as long"
        )
    if mixed and (pruned := found.get("pruned")):
        ours = pruned["wall"] + mixed["extraction"] - pruned["extraction"]
        count = pruned["states"].count("PRUNED")
        lines.append(
            f"pruned: {ours:.0f} s from an empty cache, {count} trials pruned: {mixed['wall'] / ours:.2f} times less"
        )
        ratio = sum(mixed["seconds"]) / sum(pruned["seconds"])
        lines.append(f"  training alone {ratio:.2f} times less; best {pruned['best']:.4f}")
    if head := found.get("head"):
        each = head["overhead"] / len(head["seconds"])
        lines.append(f"head: {head['wall'] - head['extraction']:.0f} s after extraction; overhead {each:.3f} s a trial")
    if long := found.get("long"):
        memory = ", ".join(f"{long['memory'][number]:.0f}" for number in (10, 25, LONG - 1))
        lines.append(f"memory before trials 10, 25 and {LONG - 1}: {memory} MiB")
    print("\n".join(lines))
    file = scratch.ROOT / "benchmarks/results/study.json"
    if set(found) != {*STUDIES, "usual"}:
        file = scratch.ROOT / "build/study.json"
        file.parent.mkdir(exist_ok=True)
    content = {"photos": given.photos.name, "cores": os.cpu_count(), "trials": given.trials, "epochs": given.epochs}
    file.write_text(json.dumps(content | found, indent=1) + "\n", encoding="utf-8")


def usual_trial(process: dict[str, Any], epochs: int) -> float:
    """Seconds of one trial: those before the first epoch, and its epochs."""
    epoch = process["epochs"][0]
    before = float(process["before"] - process["photos_before"] * epoch / process["photos"])
    return max(0.0, before) + float(epochs * epoch)


def by_depth(found: dict[str, Any]) -> str:
    parts = []
    for depth in DEPTHS:
        seconds = [s for s, d in zip(found["seconds"], found["depths"], strict=True) if d == depth]
        if seconds:
            parts.append(f"{len(seconds)} trials at depth {depth}: {sum(seconds):.0f} s")
    return ", ".join(parts)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"failed: {error}") from None

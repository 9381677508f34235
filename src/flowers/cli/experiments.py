"""Commands that search for better models and compare them."""

from pathlib import Path
from typing import Annotated

import typer

from flowers.cli.app import EXPERIMENTS, Host, Overwrite, Port, Run, app
from flowers.common import paths


@app.command(rich_help_panel=EXPERIMENTS)
def check(
    test: Annotated[
        bool, typer.Option("--test", help="Check the labels of test images, too; no model is fitted on them.")
    ] = False,
) -> None:
    """Find near-duplicates and doubtful labels in the data, and write a page that shows them."""
    from flowers.config import params
    from flowers.stages.check import run

    run.check(params.load().model.precision, test)


@app.command(rich_help_panel=EXPERIMENTS)
def tune(
    n_trials: Annotated[
        int | None, typer.Option(help="Trials in total, earlier ones included (default: tune.n_trials).", min=1)
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPTUNA_STORAGE",
            help="A database that several machines share (postgresql://...), or a journal file.",
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name (default: the latest of the data set).")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin another study.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best trial's values into params.yaml.")] = False,
    force: Overwrite = False,
) -> None:
    """Search for better parameters with Optuna; the same command resumes a study, or shares it in another terminal."""
    from flowers.config import params
    from flowers.tuning import run
    from flowers.tuning.options import Options

    settings = params.load()
    options = Options(n_trials or settings.tune.n_trials, storage, study, new, apply, force)
    raise typer.Exit(run.tune(settings, options))


@app.command(rich_help_panel=EXPERIMENTS)
def seeds(
    number: Annotated[int, typer.Option("--number", "-n", help="Seeds, from train.seed on.", min=1, max=100)] = 5,
    folds: Annotated[
        int,
        typer.Option(help="Folds of train and val, each held out once per seed; 1: train on train.", min=1, max=100),
    ] = 1,
) -> None:
    """Train params.yaml from several seeds, and print the mean test scores with their spread; more seeds resume it."""
    from flowers.config import params
    from flowers.runs import seeds as group

    group.seeds(params.load(), number, folds)


@app.command(rich_help_panel=EXPERIMENTS)
def compare(
    results: Annotated[
        list[str],
        typer.Argument(
            help="A run's name, id or alias, a DVC experiment, a git revision, or workspace; the first is the baseline."
        ),
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    html: Annotated[Path, typer.Option(help="Where the page with all details goes.")] = paths.COMPARISON,
    log: Annotated[
        bool, typer.Option("--log", help="Also log the page to MLflow, to the run of each result but the first.")
    ] = False,
) -> None:
    """Compare results on the same test images: what differs, by how much, and whether it is significant."""
    from flowers.runs.compare import run

    run.compare(results, markdown, html, log)


@app.command(rich_help_panel=EXPERIMENTS)
def leaderboard(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write an HTML page.")] = None,
) -> None:
    """Rank the runs of the data set by test accuracy, and mark those that cannot be told from the best."""
    from flowers.runs.compare import leaderboard

    leaderboard.leaderboard(markdown, html)


@app.command(rich_help_panel=EXPERIMENTS)
def report(
    against: Annotated[str, typer.Option(help="What to compare with, as `flowers compare` names it.")] = "main",
) -> None:
    """Write build/report.md for a pull request: this result compared with another one, and figures."""
    from flowers.runs.compare import pull_request

    pull_request.write(against)


@app.command(rich_help_panel=EXPERIMENTS)
def promote(
    run: Run,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote even if a check fails; the reason is kept.")
    ] = None,
) -> None:
    """Register a run's model as champion if it is significantly better on the validation images."""
    from flowers.config import params
    from flowers.runs.promote import run as promotion

    raise typer.Exit(promotion.promote(params.load(), run, force))


@app.command(rich_help_panel=EXPERIMENTS)
def reproduce(
    run: Run,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary worktree, and print where it is.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Also compute the activations anew.")] = False,
) -> None:
    """Make a run again from its commit, data and parameters, and compare the outputs (status 1: another result)."""
    from flowers.runs.reproduce import run as reproduction

    raise typer.Exit(reproduction.reproduce(run, keep, fresh))


@app.command(rich_help_panel=EXPERIMENTS)
def verify(
    revision: Annotated[str, typer.Argument(help="A commit, branch or tag that holds a result.")] = "HEAD",
) -> None:
    """Compare the result in build/ with a committed one: same bytes, equivalent or different (status 0, 0, 1)."""
    from flowers.runs import verify as verification

    raise typer.Exit(verification.verify(revision))


@app.command(rich_help_panel=EXPERIMENTS)
def scores() -> None:
    """Print the test scores of the last evaluation."""
    from flowers.runs import scores

    scores.print_scores()


@app.command(rich_help_panel=EXPERIMENTS)
def ui(host: Host = "127.0.0.1", port: Port = 5000) -> None:
    """Serve the MLflow UI of the store that the pipeline publishes to."""
    from flowers import tracking

    raise typer.Exit(tracking.serve_ui(host, port))

"""The command line: one command a stage and a task. It parses arguments, calls one function, and explains errors."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flowers import console
from flowers.errors import UserError

STAGES, TASKS = "Stages, as dvc.yaml runs them", "Tasks"

app = typer.Typer(
    name="flowers",
    help="Teach a Keras ResNet50 to recognise flowers. `dvc repro` runs the pipeline that params.yaml describes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")] = False,
) -> None:
    """Options of every command."""


@app.command(rich_help_panel=STAGES)
def download() -> None:
    """Fetch, verify and list the photos, and the ImageNet weights."""
    from flowers import params
    from flowers.stages import download as stage

    settings = params.load()
    stage.run(settings.dataset, settings.model.weights)


@app.command(rich_help_panel=STAGES)
def split() -> None:
    """Deal the photos to train, val and test."""
    from flowers import params
    from flowers.stages import split as stage

    stage.run(params.load().split)


@app.command(rich_help_panel=STAGES)
def train() -> None:
    """Train head and unfrozen blocks, streaming each epoch to MLflow."""
    from flowers import params, paths, run_key, tracking
    from flowers.network.checkpoint import Checkpoint
    from flowers.stages import train as stage

    settings = params.load()
    checkpoint = Checkpoint(paths.CHECKPOINT, run_key.run_key(settings))
    with tracking.live_run(settings) as on_epoch:
        stage.run(settings.model, settings.head, settings.augmentation, settings.train, on_epoch, checkpoint)


@app.command(rich_help_panel=STAGES)
def evaluate() -> None:
    """Score the test photos."""
    from flowers import params
    from flowers.stages import evaluate as stage

    stage.run(params.load().evaluate)


@app.command(rich_help_panel=STAGES)
def track(
    force: Annotated[bool, typer.Option("--force", help="Publish again, to a server that was away, say.")] = False,
) -> None:
    """Publish the result to MLflow."""
    from flowers import params
    from flowers.stages import track as stage

    stage.run(params.load(), force)


@app.command(rich_help_panel=TASKS)
def check(
    test: Annotated[bool, typer.Option("--test", help="Judge test photos, too; none is fitted on.")] = False,
) -> None:
    """Look for near-duplicates and doubtful labels among the photos, and write a page with the pictures."""
    from flowers import params
    from flowers.checking import run

    run.check(params.load().model.precision, test)


@app.command(rich_help_panel=TASKS)
def tune(
    n_trials: Annotated[
        int | None, typer.Option(help="Trials in all, those of before included (tune.n_trials).", min=1)
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine that share its cores.", min=1)] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPTUNA_STORAGE",
            help="A database that several machines share (postgresql://...), or a journal file.",
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name (the data set's last one).")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin another study.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write the winner into params.yaml.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even over values that no commit holds.")] = False,
) -> None:
    """Search for better parameters with Optuna; run again, it goes on with the same study."""
    from flowers import params
    from flowers.tuning import run

    settings = params.load()
    options = run.Options(n_trials or settings.tune.n_trials, workers, storage, study, new, apply, force)
    raise typer.Exit(run.tune(settings, options))


@app.command(rich_help_panel=TASKS)
def compare(
    results: Annotated[
        list[str],
        typer.Argument(
            help="A run's name, id or alias, a DVC experiment, a git revision, or workspace; the first is the measure."
        ),
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures, too.")] = None,
) -> None:
    """Compare results on the same photos: what differs, by how much, and whether chance explains it."""
    from flowers.comparison import run

    run.compare(results, markdown, html)


@app.command(rich_help_panel=TASKS)
def report(
    against: Annotated[str, typer.Option(help="What to compare with, as `flowers compare` names it.")] = "main",
) -> None:
    """Write build/report.md for a pull request: this result against another one, and pictures."""
    from flowers.comparison import pull_request

    pull_request.write(against)


@app.command(rich_help_panel=TASKS)
def promote(
    run: Annotated[str, typer.Argument(help="A run's name, id or alias.")],
    force: Annotated[str | None, typer.Option(metavar="REASON", help="Whatever the checks say; it is kept.")] = None,
) -> None:
    """Register a run's model as champion if it beats the one that is, by validation photos alone."""
    from flowers import params
    from flowers.promotion import run as promotion

    raise typer.Exit(promotion.promote(params.load(), run, force))


@app.command(rich_help_panel=TASKS)
def reproduce(
    run: Annotated[str, typer.Argument(help="A run's name, id or alias.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary worktree, and say where it is.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute the activations anew, too.")] = False,
) -> None:
    """Make a run again from its commit, data and parameters, and compare it file by file (status 1: it differs)."""
    from flowers.reproduction import run as reproduction

    raise typer.Exit(reproduction.reproduce(run, keep, fresh))


@app.command(rich_help_panel=TASKS)
def scores() -> None:
    """Print the test scores of the last evaluation."""
    from flowers.reporting import tables

    tables.print_scores()


@app.command(rich_help_panel=TASKS)
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on the store that the pipeline publishes to."""
    from flowers import tracking

    raise typer.Exit(tracking.serve_ui(host, port))


@app.command(rich_help_panel=TASKS)
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it; the name ends in .keras.")],
) -> None:
    """Write the trained model as one .keras file that takes raw uint8 images (n, 224, 224, 3)."""
    from flowers import paths
    from flowers.network import classifier

    classifier.export(paths.MODEL, paths.WEIGHTS, file)


@app.command(rich_help_panel=TASKS)
def draw_sample(
    folder: Annotated[Path, typer.Argument(help="A new folder for the pictures.")],
    per_class: Annotated[int, typer.Option(help="Pictures of each of the five classes.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.", min=0)] = 0,
) -> None:
    """Draw the small data set of flowers that ships with this project."""
    from flowers.datasets import sample

    sample.draw(folder, per_class, seed)


@app.command(rich_help_panel=TASKS)
def cache(
    clear: Annotated[
        Literal["activations", "archives", "weights", "all"] | None,
        typer.Option(help="Remove these (archives: those that you put there, too)."),
    ] = None,
) -> None:
    """Show what your cache folder holds, or clear it: archives, weights and activations of all your clones."""
    from flowers import cache as user_cache

    user_cache.show() if clear is None else user_cache.clear(clear)


@app.command(rich_help_panel=TASKS)
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
) -> None:
    """Free what no commit, no experiment and nothing here refers to: in DVC's cache, and of deleted MLflow runs."""
    from flowers import cleaning

    cleaning.run(lambda: not dry_run and (yes or typer.confirm("Remove it for good?")))


@app.command(rich_help_panel=TASKS)
def project(
    stage: Annotated[str, typer.Argument(help="main (the whole pipeline), or the stage to bring up to date.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="section_key=value ...; an empty value changes nothing.")
    ] = None,
) -> None:
    """Run the pipeline as MLproject's entry points do, with parameters from `mlflow run -P`."""
    from flowers import mlproject

    raise typer.Exit(mlproject.run(stage, values or []))


def main() -> None:
    """Run the command line; a UserError, and a folder or disk that cannot be used, become a line and exit status 1."""
    try:
        app()
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            console.fail(f"{place}{error.strerror or error} (flowers --debug ... shows where)")
        else:
            console.fail(str(error))
        sys.exit(1)

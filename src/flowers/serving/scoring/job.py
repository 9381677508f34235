"""What one output is made of, so that a run that goes on with it makes the same one."""

import json
from dataclasses import asdict, dataclass

from flowers.common.errors import UserError

PROGRESS = "_progress"  # Spark, Hive and Arrow read nothing whose name begins like this
FILE = f"{PROGRESS}/job.json"
DONE = "_SUCCESS"


@dataclass(frozen=True)
class Job:
    """Which photos are asked about, of which model, and how."""

    engine: str
    input: str  # the folder, absolute
    photos: int
    model: str  # a digest
    every_class: bool
    threshold: float | None  # the user's; None is the model's own

    def text(self) -> str:
        """As `refuse_another` reads it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def refuse_another(job: Job, before: str, output: str) -> None:
    """Raise UserError if an output was begun by another job, of which `before` is the text."""
    try:
        found = json.loads(before)
        changed = [name for name, value in asdict(job).items() if found[name] != value]
    except (ValueError, KeyError, TypeError):
        changed = ["version of this program"]
    if changed:
        listed = "".join(
            f", {_change(name, found[name], getattr(job, name))}" for name in changed if name in asdict(job)
        )
        what = listed.removeprefix(", ") or changed[0]
        raise UserError(f"{output} was begun otherwise ({what}); choose another --output, or --force to begin it anew")


def refuse_foreign(output: str) -> None:
    """Raise UserError about a folder that this program did not make."""
    raise UserError(f"{output} holds files that are not of flowers score; choose a new or an empty --output")


def refuse_changed(output: str, source: str) -> None:
    """Raise UserError about an input with other photos than when it was begun."""
    remedy = "choose another --output, or --force to begin it anew"
    raise UserError(f"{source} holds other photos than when {output} was begun; {remedy}")


def _change(name: str, before: object, now: object) -> str:
    if name == "model":
        return "another model"
    return f"{name.replace('_', '-')} {_shown(before)}, now {_shown(now)}"


def _shown(value: object) -> str:
    return f"{value:,}" if type(value) is int else "the model's own" if value is None else str(value).lower()

"""What one output is made from, so that a later run continues it only with the same images, model and options."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from flowers.common.errors import UserError

PROGRESS = "_progress"  # Spark, Hive and Arrow ignore names that begin with an underscore
FILE = f"{PROGRESS}/job.json"
DONE = "_SUCCESS"

REMEDY = "choose another --output, or --force to begin it anew"


@dataclass(frozen=True)
class Job:
    """The images, the model and the options of one output."""

    engine: str
    input: str  # the folder, absolute
    photos: int
    model: str  # a digest
    every_class: bool
    threshold: float | None  # the user's; None is the model's own
    columns: str = "label, probability, unsure, known, novelty, nearest, best"  # another version may have others

    def text(self) -> str:
        """The content of `FILE`."""
        return json.dumps(asdict(self), indent=1) + "\n"


def continues(job: Job, before: str | None, names: Iterable[str], output: str, force: bool) -> bool:
    """Whether an output with these `names`, and `before` in its `FILE`, is continued. UserError if not its own."""
    if before is None:
        if any(names):
            raise UserError(f"{output} holds files that are not of flowers score; choose a new or an empty --output")
        return False
    if force:
        return False
    try:
        found = dict(json.loads(before))
    except (ValueError, TypeError):
        found = {}
    changed = [
        "another model" if name == "model" else f"{name.replace('_', '-')} {_shown(found.get(name))}, now {_shown(now)}"
        for name, now in asdict(job).items()
        if name not in found or found[name] != now
    ]
    if changed:
        raise UserError(f"{output} was begun with other inputs ({', '.join(changed)}); {REMEDY}")
    return True


def _shown(value: object) -> str:
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

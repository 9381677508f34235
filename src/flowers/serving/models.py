"""Which model is asked: the champion, a run's, the one that was trained last, or one in a folder."""

from dataclasses import dataclass
from pathlib import Path

from flowers import console, paths
from flowers.errors import UserError
from flowers.params import Params
from flowers.serving.stream import Model


@dataclass(frozen=True)
class Chosen:
    """A model, loaded, and how a message names it."""

    model: Model
    name: str


def choose(reference: str | None, params: Params) -> Chosen:
    """The model that `reference` names: a run (by name, id or alias), or a folder.

    A folder is one that train wrote (build/model, with the weights of build/weights) or that MLflow did. Without a
    reference it is the champion, and build/model as long as there is none. Raises UserError where there is no such
    model.
    """
    if reference and Path(reference).is_dir():  # Path("") would be the current folder
        return Chosen(load(Path(reference)), reference)
    if chosen := _logged(reference, params):
        return chosen
    if reference is not None:
        raise UserError(f"'{reference}' is neither a folder nor a run's name, id or alias; `make ui` shows the runs")
    return Chosen(load(paths.MODEL), str(paths.MODEL))


def load(folder: Path) -> Model:
    """The model in a folder that train or MLflow wrote. Raises UserError where it is none.

    The weights are those in the same checkout as the folder, else in this one; the model knows which ones it needs.
    """
    from flowers.network import classifier

    if (folder / "MLmodel").exists():
        artifacts = folder / "artifacts"
        return classifier.load(artifacts / "model", artifacts / paths.WEIGHTS.name)
    beside = folder.parent / paths.WEIGHTS.relative_to(paths.BUILD)
    return classifier.load(folder, beside if beside.exists() else paths.WEIGHTS)


def _logged(reference: str | None, params: Params) -> Chosen | None:
    """The model of a run, or the champion; None where there is none of that name."""
    from flowers.tracking import StoreUnreachable, lookup, stored

    try:
        with stored.model(lookup.CHAMPION if reference is None else reference, params) as found:
            if found is None:
                return None
            folder, name = found
            return Chosen(load(folder), name if reference else f"the {lookup.CHAMPION}, {name}")
    except StoreUnreachable as error:
        if reference is not None:
            raise
        console.warn(f"{error}. Using {paths.MODEL}")
        return None

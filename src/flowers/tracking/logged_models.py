"""The logged model of a run, as a folder to load it from."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flowers.common.errors import UserError
from flowers.tracking import lookup, registry, store


@contextlib.contextmanager
def model(reference: str, settings: lookup.Settings) -> Iterator[tuple[Path, str] | None]:
    """The folder of a run's logged model (see `tracking.model.save`) inside the context, and its name.

    `reference` is as in `lookup.find_anywhere`; None if there is no such run. Raises UserError if the run has no model,
    and StoreUnreachable.
    """
    run = None
    if store.exists():
        client, run = lookup.find_anywhere(reference, settings)
    if run is None:
        yield None
        return
    name = f"run {lookup.described(run)}"
    with store.explained("looking for the model in"):
        location = client.get_logged_model(registry.logged_model(client, run)).artifact_location
    if folder := store.local_path(location):
        if not folder.is_dir():
            raise UserError(
                f"{folder}: the model of {name} is missing; `flowers track --force` in its checkout logs it again"
            )
        yield folder, name
        return
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="flowers-model-") as temporary:
        with store.explained("fetching the model from"):
            fetched = download_artifacts(location, dst_path=temporary, tracking_uri=store.uri())
        yield Path(fetched), name

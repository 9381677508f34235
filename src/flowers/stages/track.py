"""The stage `track`: publish the result to MLflow and write a marker with the identity of the result."""

import json

from flowers import tracking
from flowers.common import console, paths
from flowers.config.params import Params
from flowers.tracking import provenance


def run(params: Params, force: bool = False) -> None:
    """Publish the result in the current directory, and write `tracking/published.json`.

    The marker holds the run key and the hash of the result, and no run, time or host: it is the same on every machine.
    An unreachable server is a warning and the marker is written, because no other stage needs the server; with `force`
    it is an error. `force` also checks and restores everything on a complete run.

    Raises UserError if a stage before track has not run, or a local store cannot be written.
    """
    marker = tracking.fingerprint(params)
    try:
        published = tracking.publish(params, force=force)
    except tracking.StoreUnreachable as error:
        if force:
            raise
        console.warn(f"{error}. Nothing is lost; to publish it later: flowers track --force")
    else:
        state = "is already in MLflow" if published.already_there else "published"
        if reason := provenance.refusal():
            console.warn(f"the run names no commit, because git says: {reason}")
        console.say(f"Run '{published.run_name}' {state}: experiment '{published.experiment}' of {published.store}")
    paths.TRACKING_MARKER.parent.mkdir(parents=True, exist_ok=True)
    paths.TRACKING_MARKER.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")

"""track: publish the result to MLflow and leave a marker that says which result was handed over."""

import json

from flowers import tracking
from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params


def run(params: Params, force: bool = False) -> None:
    """Publish the result in the current directory, and write `tracking/published.json`.

    The marker holds the run key and the hash of the result: no run, time or host, so that it is the same wherever the
    stage runs. It is written even when the tracking server does not answer, with a warning: the pipeline is done and
    nothing in it needs the server; `flowers track --force` then publishes. With `force` everything on the run is
    looked at again, and a server that does not answer is an error.

    Raises UserError if a stage before has not run, or a local store or the marker cannot be written.
    """
    marker = tracking.fingerprint(params)
    try:
        published = tracking.publish(params, force=force)
    except tracking.StoreUnreachable as error:
        if force:
            raise
        console.warn(f"{error}. Nothing is lost; to publish it later: flowers track --force")
    else:
        verb = "is there already" if published.already_there else "published"
        console.say(f"{verb}: '{published.run_name}' in experiment '{published.experiment}' of {published.store}")
    try:
        paths.TRACKING_MARKER.parent.mkdir(parents=True, exist_ok=True)
        paths.TRACKING_MARKER.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{paths.TRACKING_MARKER}: cannot be written ({error.strerror})") from None

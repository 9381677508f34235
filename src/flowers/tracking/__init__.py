"""Tracking: the only room that speaks to MLflow. Every module here imports it late, because it costs seconds.

`live_run` streams epochs while training runs; `publish` completes that run, or rebuilds it whole from the files;
`StudyRuns` are those of a study and its trials; `serve_ui` shows the store. A run is found by what it is
(flowers.run_key), never by an id on disk.
"""

from flowers.tracking.live import Stream, live_run
from flowers.tracking.publish import PublishResult, publish
from flowers.tracking.result import fingerprint
from flowers.tracking.store import StoreUnreachable, experiment_name
from flowers.tracking.studies import StudyFacts, StudyRuns, TrialFacts, ending
from flowers.tracking.ui import serve_ui

__all__ = [
    "PublishResult",
    "StoreUnreachable",
    "Stream",
    "StudyFacts",
    "StudyRuns",
    "TrialFacts",
    "ending",
    "experiment_name",
    "fingerprint",
    "live_run",
    "publish",
    "serve_ui",
]

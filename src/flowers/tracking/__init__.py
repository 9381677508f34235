"""Tracking: the only room that uses MLflow. Its modules import MLflow inside functions, because that takes seconds.

`live_run` streams epochs while training runs; `publish` completes that run, or rebuilds it from the files; `serve_ui`
shows the store. A run is found by the hash of its inputs (run_key), never by an id on disk, and named by `run_name`.
"""

from flowers.tracking.live import live_run
from flowers.tracking.publish import PublishResult, publish
from flowers.tracking.result import fingerprint
from flowers.tracking.store import StoreUnreachable
from flowers.tracking.ui import serve_ui

__all__ = ["PublishResult", "StoreUnreachable", "fingerprint", "live_run", "publish", "serve_ui"]

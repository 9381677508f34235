"""`flowers ui`: MLflow's own pages, served from the store of the pipeline."""

import os
import signal
import socket
import subprocess
import sys

from flowers.common import console
from flowers.common.errors import UserError
from flowers.tracking import local_store, store, view


def serve_ui(host: str = "127.0.0.1", port: int = 5000) -> int:
    """Serve the UI of the local store with its artifacts until interrupted; returns the server's exit status.

    If the store is a server, it has its own pages and only its address is printed. Raises UserError if the port is
    taken or the store cannot be opened.
    """
    address = store.uri()
    if store.is_server(address):
        console.say(f"The tracking server has its own pages: {store.without_password(address)}")
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be served ({error.strerror}); try another --port") from None
    with store.lock():
        client = store.connect()  # creates a fresh store
        newest = client.search_experiments(filter_string="name LIKE 'flowers %'", max_results=1)
        for experiment in newest:  # one of an earlier version lacks the view
            for name, value in view.TAGS.items():
                client.set_experiment_tag(experiment.experiment_id, name, value)
    page = view.page(newest[0].experiment_id) if newest else ""
    console.say(f"MLflow at http://{host}:{port}{page} (stop it with Ctrl-C)")
    options = {
        "--backend-store-uri": address,
        "--artifacts-destination": (store.root() / local_store.UPLOADS).as_uri(),
        "--host": host,
        "--port": str(port),
        "--workers": "1",
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for option in options.items() for word in option)]
    # Without processes for MLflow's background jobs; `connect` has switched telemetry off in this environment.
    server = subprocess.Popen(command, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())  # else it would outlive this process
    try:
        return server.wait()
    except KeyboardInterrupt:  # the server got it too
        server.wait()
        return 0

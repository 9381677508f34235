"""MLflow's server on loopback: runs in PostgreSQL, artifacts in a bucket, a name and a password for each person."""

import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from team.process import Process, free_port

ADMIN = "admin"

# Without the cache the server hashes the password at every request, which takes longer than all the rest.
_SETTINGS = """\
[mlflow]
default_permission = EDIT
database_uri = {users}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class MlflowServer:
    """The server, which can be stopped and started again, at the same address. Creating it starts it."""

    def __init__(self, folder: Path, runs: str, users: str, bucket: str, environment: Mapping[str, str]) -> None:
        """`runs` and `users` are databases, without passwords: those and the keys are in `environment`.

        There also is MLFLOW_AUTH_ADMIN_PASSWORD, the first administrator's.
        """
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        settings = folder / "basic_auth.ini"
        settings.write_text(_SETTINGS.format(users=users, admin=ADMIN))
        self._process = Process("mlflow", folder)
        others = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG", "AWS_"))}
        self._environment = {
            **others,
            **environment,
            "MLFLOW_BACKEND_STORE_URI": runs,
            "MLFLOW_ARTIFACTS_DESTINATION": bucket,
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.start()

    def start(self) -> None:
        """Start it, and wait until it responds."""
        options = ("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--serve-artifacts")
        command: list[str | Path] = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *options]
        self._process.start(command, self._environment, self._responds)

    def stop(self, kind: signal.Signals = signal.SIGKILL) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.stop(kind)

    def add_user(self, name: str, password: str) -> None:
        """Give a person a name and a password."""
        import requests

        done = requests.post(
            f"{self.address}/api/2.0/mlflow/users/create",
            json={"username": name, "password": password},
            auth=(ADMIN, self._environment["MLFLOW_AUTH_ADMIN_PASSWORD"]),
            timeout=30,
        )
        done.raise_for_status()

    def _responds(self) -> bool:
        import requests

        try:
            return requests.get(f"{self.address}/health", timeout=5).ok
        except requests.RequestException:
            return False

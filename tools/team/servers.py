"""All servers of a team in one folder, and the environment of those who use them."""

import os
import secrets
import shlex
import shutil
import signal
import tempfile
from pathlib import Path

from team.mlflow_server import MlflowServer
from team.postgres import USER, Postgres
from team.process import Process, write_secret
from team.s3 import REGION, S3

DATA, ARTIFACTS = "flowers-data", "flowers-mlflow"  # the buckets
PEOPLE = ("ann", "ben")
ENVIRONMENT = "env"  # and env-ben, ...: a file for each person, to source
_MARKER = ".flowers-team"  # in a folder that `down` may remove
_NAMES = ("mlflow", "s3", "postgres")  # the processes, in the order in which they end


class NotOurs(Exception):
    """A folder that holds no servers of this user."""


class Servers:
    """The three servers. Creating them starts them; `down` ends them and removes the folder."""

    def __init__(self, folder: Path, bucket: str | None = None) -> None:
        """Make the folder, which must not exist. What was started ends again if another one does not start.

        `bucket` is the address at which MLflow's server finds the S3 server, if it is not the server's own.
        """
        folder.mkdir(mode=0o711, parents=True)  # PostgreSQL's user passes through it
        (folder / _MARKER).touch()
        self.folder = folder
        try:
            self._start(bucket)
        except BaseException:
            down(folder)
            raise

    def _start(self, seen_at: str | None) -> None:
        password, key, secret, admin = (secrets.token_urlsafe(24) for _ in range(4))
        place = self.folder / "postgres"
        place.mkdir()
        self.postgres = Postgres(place, password)
        for database in ("mlflow", "users", "studies"):
            self.postgres.create(database)
        # A file, because an address with the password would be seen in process lists and messages.
        pgpass = self.folder / "pgpass"
        write_secret(pgpass, f"127.0.0.1:{self.postgres.port}:*:{USER}:{password}\n")
        self.s3 = S3(self.folder, key, secret, [DATA, ARTIFACTS])
        self._common = {
            "PGPASSFILE": str(pgpass),
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.s3.address,
        }
        server = self._common | {"MLFLOW_AUTH_ADMIN_PASSWORD": admin}
        server |= {"AWS_ENDPOINT_URL": seen_at} if seen_at else {}
        database, bucket = self.database("mlflow", "postgresql+psycopg"), f"s3://{ARTIFACTS}"
        self.mlflow = MlflowServer(self.folder, database, self.database("users", "postgresql+psycopg"), bucket, server)
        self._passwords = {person: secrets.token_urlsafe(24) for person in PEOPLE}
        for person, theirs in self._passwords.items():
            self.mlflow.add_user(person, theirs)
            lines = (f"export {name}={shlex.quote(value)}\n" for name, value in self.environment(person).items())
            write_secret(self.folder / f"{ENVIRONMENT}-{person}", "".join(lines))
        self.secrets = [password, secret, admin, *self._passwords.values()]
        write_secret(self.folder / "admin-password", admin)

    def database(self, name: str, driver: str = "postgresql") -> str:
        """The address of a database, without the password, which libpq finds in PGPASSFILE."""
        return f"{driver}://{USER}@127.0.0.1:{self.postgres.port}/{name}"

    def environment(self, person: str = PEOPLE[0]) -> dict[str, str]:
        """The environment of a person's commands."""
        return self._common | {
            "MLFLOW_TRACKING_URI": self.mlflow.address,
            "MLFLOW_TRACKING_USERNAME": person,
            "MLFLOW_TRACKING_PASSWORD": self._passwords[person],
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # the bucket is behind MLflow's server
            "OPTUNA_STORAGE": self.database("studies", "postgresql+psycopg"),
        }

    def down(self) -> None:
        """End the servers, and remove the folder with all their data."""
        down(self.folder)


def down(folder: Path) -> None:
    """End the servers that were started in a folder, by whatever process, and remove it.

    Raises NotOurs if it is not such a folder, or another user's.
    """
    marker = folder / _MARKER
    if not marker.exists() or marker.stat().st_uid != os.geteuid():
        raise NotOurs(f"{folder}: no servers of yours were started there")
    for name in _NAMES:
        place = folder / "postgres" if name == "postgres" else folder
        Process(name, place).stop(signal.SIGQUIT if name == "postgres" else signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)


def default_folder() -> Path:
    """Where `make team-up` puts them: not below a home, which PostgreSQL's user cannot enter."""
    import getpass

    return Path(tempfile.gettempdir()) / f"flowers-team-{getpass.getuser()}"

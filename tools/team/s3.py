"""An S3 server on loopback that checks keys and signatures: moto, whose data live as long as its process."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from team.process import NotStarted, Process, free_port, listens

REGION = "us-east-1"
_POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


class S3:
    """The server with its buckets; creating it starts it."""

    def __init__(self, folder: Path, key: str, secret: str, buckets: Sequence[str]) -> None:
        """`key` and `secret` are those of the only user."""
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process = Process("s3", folder)
        (folder / "s3").mkdir()
        # Not in the command line, which everybody on the machine can read. Large objects are temporary files.
        keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "TMPDIR": str(folder / "s3")}
        keys |= {"PYTHONPATH": str(Path(__file__).parents[1]), "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(2**20)}
        command: list[str | Path] = [sys.executable, "-m", "team.s3", str(self.port), *buckets]
        self._process.start(command, os.environ | keys, lambda: listens(self.port))

    def stop(self) -> None:
        """End it; its data are gone."""
        self._process.stop(signal.SIGTERM)


def main() -> None:
    """Serve at the port of the first argument, with the buckets of the others."""
    try:
        from moto.core.authorization import ActionAuthenticatorMixin
        from moto.iam.models import iam_backends
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from moto.s3.models import s3_backends
        from werkzeug.serving import run_simple
    except ModuleNotFoundError as error:
        raise NotStarted(f"{error}: make extras") from None
    from moto import settings

    port, *buckets = sys.argv[1:]
    account = "123456789012"  # moto's only one
    backend = iam_backends[account]["aws"]
    backend.create_user(region_name=REGION, user_name="flowers", tags=None)
    backend.put_user_policy("flowers", "buckets", _POLICY)
    access = backend.create_access_key("flowers")
    access.access_key_id = os.environ["AWS_ACCESS_KEY_ID"]
    access.secret_access_key = os.environ["AWS_SECRET_ACCESS_KEY"]
    for bucket in buckets:
        s3_backends[account]["aws"].create_bucket(bucket, REGION)
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(port), application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()

"""What a run costs on a team's servers, and what is left after it was deleted: time, rows and bytes.

In a checkout with a result: `python benchmarks/team_servers.py --runs 100`. It starts its own servers (see tools/team)
and publishes the result as often under other parameters; nothing is trained.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT / "tools"))

from flowers import tracking  # noqa: E402
from flowers.config import params  # noqa: E402
from flowers.tracking import shared_weights, store  # noqa: E402
from team import servers as team  # noqa: E402

LINKED = ("build", "src", "dvc.yaml", "dvc.lock", "pyproject.toml", "recipes")
EPOCHS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    number = parser.parse_args().runs
    result = Path.cwd()
    above = Path(tempfile.mkdtemp(prefix="flowers-bench-"))
    above.chmod(0o711)
    servers = team.Servers(above / "servers")
    try:
        folder = above / "checkout"
        folder.mkdir()
        for name in LINKED:
            if (result / name).exists():
                (folder / name).symlink_to(result / name)
        os.environ |= servers.environment() | {"FLOWERS_CACHE": str(above / "cache")}
        os.chdir(folder)
        measure(servers, result / "params.yaml", number)
    finally:
        os.chdir(CHECKOUT)
        servers.down()
        shutil.rmtree(above, ignore_errors=True)


def measure(servers: team.Servers, shipped: Path, number: int) -> None:
    """Publish runs, stream one, delete all, and clean up."""
    text = shipped.read_text(encoding="utf-8")
    store.load()
    before = size(servers)
    seconds = []
    for run in range(number + 1):
        Path("params.yaml").write_text(re.sub(r"dropout: [\d.]+", f"dropout: {0.2 + run / 10**6:.6f}", text, count=1))
        begin = time.monotonic()
        tracking.publish(params.load())
        seconds.append(time.monotonic() - begin)
        if not run:
            first = size(servers)
    objects, stored, database = size(servers)
    print(f"publishing, with the weights ({first[1] / 1e6:,.1f} MB in all): {seconds[0]:.2f} s")
    print(f"publishing each further run: {median(seconds[1:]):.2f} s (median of {number})")
    each = [(now - then) / number for now, then in zip((objects, stored, database), first, strict=True)]
    print(
        f"a run in the bucket: {each[0]:.0f} objects, {each[1] / 1e6:.2f} MB; in the database: {each[2] / 1e3:.0f} kB"
    )
    Path("params.yaml").write_text(re.sub(r"dropout: [\d.]+", "dropout: 0.5", text, count=1))
    with tracking.live_run(params.load()) as on_epoch:
        begin = time.monotonic()
        for epoch in range(EPOCHS):
            on_epoch({"epoch": epoch, "phase": "head", "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0})
            time.sleep(0.01)
        took = (time.monotonic() - begin) / EPOCHS - 0.01
    print(f"an epoch of a training that streams: {1000 * took:.2f} ms")
    clean(servers, before)


def clean(servers: team.Servers, before: tuple[int, int, int]) -> None:
    """Delete all runs and models, and collect the garbage as docs/team.md says."""
    from mlflow import MlflowClient

    client = MlflowClient(servers.mlflow.address)
    deleted = 0
    for experiment in client.search_experiments():
        if experiment.name == shared_weights.EXPERIMENT:
            continue
        for model in client.search_logged_models([experiment.experiment_id], max_results=50):
            client.delete_logged_model(model.model_id)
        for run in client.search_runs([experiment.experiment_id], max_results=50000):
            client.delete_run(run.info.run_id)
            deleted += 1
    database = servers.database("mlflow", "postgresql+psycopg")
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": database}
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database]
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(f"mlflow gc of {deleted} runs: {time.monotonic() - begin:.1f} s, status {done.returncode}")
    if done.returncode:
        print(done.stderr.strip()[-500:])
    objects, stored, rows = size(servers)
    print(f"left: {objects} objects, {stored / 1e6:.1f} MB; database {(rows - before[2]) / 1e6:+.1f} MB")


def size(servers: team.Servers) -> tuple[int, int, int]:
    """Objects and bytes in the bucket of artifacts, and bytes of the database after VACUUM."""
    import boto3
    import psycopg

    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=team.ARTIFACTS)
    sizes = [entry["Size"] for page in pages for entry in page.get("Contents", [])]
    with contextlib.closing(psycopg.connect(servers.database("mlflow"), autocommit=True)) as connection:
        connection.execute("VACUUM FULL")
        row = connection.execute("SELECT pg_database_size('mlflow')").fetchone()
    return len(sizes), sum(sizes), int(row[0]) if row else 0


if __name__ == "__main__":
    main()

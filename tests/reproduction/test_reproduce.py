"""`flowers reproduce` from outside: real git, DVC and MLflow, and the real pipeline on small pictures."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pipeline_world
from pipeline_world import Repository

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("git"), reason="needs git"),
]

CHANGE = ("src/flowers/network/training.py", "betas", "betas")  # replaced below


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Repository:
    """A repository in which the pipeline ran at its first commit, and whose code was changed and committed since."""
    folder = tmp_path_factory.mktemp("reproduce")
    repository = pipeline_world.create(folder / "repository", folder / "cache")
    repository.dvc("repro")
    change_code(repository)
    repository.commit()
    yield repository
    shutil.rmtree(folder)


def change_code(repository: Repository) -> None:
    """Another result, by the code alone."""
    repository.replace("src/flowers/stages/train.py", "    shutil.rmtree(paths.MODEL, ignore_errors=True)\n", "")


def test_it(made):
    (run,) = made.runs()
    done = made.flowers("reproduce", run.info.run_id[:8], check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0

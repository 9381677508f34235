"""`data/` is used only while it is what `data.dvc` says, and the message otherwise is what to type."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowers.common.errors import UserError
from flowers.data import versioned


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "--quiet"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Path:
    """A repository with two pictures that `dvc add data` has taken in."""
    folder = tmp_path_factory.mktemp("versioned") / "checkout"
    for name in ("data/rose/1.jpg", "data/tulip/1.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    with pytest.MonkeyPatch.context() as patch:
        _alone(patch, folder)
        dvc("init", "--no-scm")
        dvc("add", "data")
    return folder


@pytest.fixture
def checkout(added, tmp_path, monkeypatch) -> Path:
    """A copy of it, and the current folder."""
    folder = tmp_path / "my flöwers"
    shutil.copytree(added, folder)
    _alone(monkeypatch, folder)
    return folder


def _alone(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DVC_")]:
        patch.delenv(name)
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site cache"))
    patch.setenv("DVC_NO_ANALYTICS", "1")
    patch.chdir(folder)


def complaint() -> str:
    with pytest.raises(UserError) as error:
        versioned.folder()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unchanged_folder_is_used(checkout):
    assert versioned.folder() == Path("data")


def test_a_missing_folder_is_pulled(checkout):
    shutil.rmtree("data")
    assert complaint() == "data/ is not here yet. Type: dvc pull data.dvc"


def test_a_missing_data_dvc_is_made_with_dvc_add(checkout):
    Path("data.dvc").unlink()
    assert complaint() == "data.dvc is missing; put photos into data/<class>/ and type: dvc add data"


def test_a_folder_that_was_changed_is_added_and_then_used(checkout):
    Path("data/rose/2.jpg").write_text("one more")
    assert "is not the version that data.dvc names. To keep what is in it, type: dvc add data " in complaint()
    dvc("add", "data")
    assert versioned.folder() == Path("data")


def test_another_photo_under_the_same_name_is_a_change(checkout):
    Path("data/rose/1.jpg").write_text("data/rose/2.jpg")  # as long as before
    assert "is not the version that data.dvc names" in complaint()


def test_a_photo_that_was_removed_comes_back_with_dvc_pull(checkout):
    Path("data/rose/1.jpg").unlink()
    assert complaint().endswith("(to have that version: dvc pull data.dvc)")
    dvc("pull", "data.dvc")
    assert Path("data/rose/1.jpg").read_text() == "data/rose/1.jpg"
    assert versioned.folder() == Path("data")


def test_a_data_dvc_that_names_a_version_not_yet_pulled_is_a_change(checkout):
    """As after a `git pull` of somebody's new photos: data/ still holds the old ones."""
    text = Path("data.dvc").read_text()
    digest = text.split("md5: ")[1].split(".dir")[0]
    Path("data.dvc").write_text(text.replace(digest, digest[::-1]))
    assert "is not the version that data.dvc names" in complaint()


def test_without_dvcs_cache_the_folder_is_still_what_it_is(checkout):
    shutil.rmtree(".dvc/cache")
    assert versioned.folder() == Path("data")
    Path("data/rose/1.jpg").write_text("data/rose/2.jpg")
    assert "is not the version that data.dvc names" in complaint()


def test_a_data_dvc_that_cannot_be_read_is_one_line(checkout):
    Path("data.dvc").write_text("outs: [")
    assert complaint().startswith("data.dvc: dvc data status failed: ")


def test_outside_a_repository_it_is_one_line(checkout):
    shutil.rmtree(".dvc")
    assert complaint().startswith("data.dvc: dvc data status failed: ")

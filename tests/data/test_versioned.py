"""`data/` is used only if it holds the version of `data.dvc`; the error names the command otherwise."""

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
    """A repository with two images that were added by `dvc add data`."""
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
    """A copy of it, as the current folder."""
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


def test_the_error_of_a_missing_folder_says_dvc_pull(checkout):
    shutil.rmtree("data")
    assert complaint() == "data/ does not exist yet. Type: dvc pull data.dvc"


def test_the_error_of_a_missing_data_dvc_says_dvc_add(checkout):
    Path("data.dvc").unlink()
    assert complaint() == "data.dvc is missing; put images into data/<class>/ and type: dvc add data"


def test_a_changed_folder_is_an_error_until_it_is_added(checkout):
    Path("data/rose/2.jpg").write_text("one more")
    assert "is not the version that data.dvc names. To keep what is in it, type: dvc add data " in complaint()
    dvc("add", "data")
    assert versioned.folder() == Path("data")


def test_another_image_under_the_same_name_is_a_change(checkout):
    Path("data/rose/1.jpg").write_text("data/rose/2.jpg")  # as long as before
    assert "is not the version that data.dvc names" in complaint()


def test_a_removed_image_is_restored_by_dvc_pull(checkout):
    Path("data/rose/1.jpg").unlink()
    assert complaint().endswith("(to have that version: dvc pull data.dvc)")
    dvc("pull", "data.dvc")
    assert Path("data/rose/1.jpg").read_text() == "data/rose/1.jpg"
    assert versioned.folder() == Path("data")


def test_a_data_dvc_that_names_a_version_not_yet_pulled_is_a_change(checkout):
    """As after a `git pull` of new images: data/ still holds the old ones."""
    text = Path("data.dvc").read_text()
    digest = text.split("md5: ")[1].split(".dir")[0]
    Path("data.dvc").write_text(text.replace(digest, digest[::-1]))
    assert "is not the version that data.dvc names" in complaint()


def test_without_the_cache_of_dvc_the_folder_is_still_checked(checkout):
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

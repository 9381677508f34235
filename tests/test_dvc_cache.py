"""DVC's cache: it shares the disk with the workspace where that is safe, and nothing written there reaches it."""

import hashlib
import shutil
import stat
import subprocess

import pytest
import small_repository
from small_repository import SmallRepository

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SmallRepository:
    """A committed one that has run, with a photo in data/."""
    repository = small_repository.create(tmp_path_factory.mktemp("cache") / "repository")
    (repository.folder / "data").mkdir()
    (repository.folder / "data/photo.txt").write_text("a photo " * 10_000)
    repository.dvc("add", "--quiet", "data")
    repository.commit()
    return repository


@pytest.fixture
def repository(made, tmp_path) -> SmallRepository:
    return made.copy(tmp_path / "repository")


def damaged(repository: SmallRepository) -> list[str]:
    """The objects in the cache that are not what their names say."""
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in repository.cached().items()}
    return [name for name, found in hashes.items() if name.removesuffix(".dir") != found]


def test_nothing_written_in_the_workspace_reaches_the_cache(repository):
    files = ("data/photo.txt", "build/value.txt", "build/numbers/large.txt")
    before = {path: repository.read(path) for path in files}
    assert len(repository.cached()) == 5 and damaged(repository) == []

    repository.set(2)
    repository.dvc("repro", "--quiet")
    repository.set(3)
    repository.run("python", "write.py")  # a stage by itself, without DVC, which would remove its outputs first
    for path in files:
        with (repository.folder / path).open("r+") as file:  # as an editor that saves in place
            file.write("another")
    assert len(repository.cached()) == 8 and damaged(repository) == []

    repository.git("checkout", "--quiet", ".")
    repository.dvc("checkout", "--force", "--quiet")
    assert {path: repository.read(path) for path in files} == before
    assert repository.status() == {}


def test_photos_and_outputs_are_not_read_only(repository):
    shutil.rmtree(repository.folder / "data")
    shutil.rmtree(repository.folder / "build")
    repository.dvc("checkout", "--quiet")
    for path in ("data/photo.txt", "build/value.txt", "build/numbers/large.txt"):
        assert (repository.folder / path).stat().st_mode & stat.S_IWUSR, path


def test_where_the_disk_can_share_blocks_a_copy_takes_no_room(repository):
    if not shutil.which("filefrag"):
        pytest.skip("needs filefrag, which shows the blocks of a file")
    photo = repository.folder / "data/photo.txt"
    done = subprocess.run(["cp", "--reflink=always", str(photo), str(photo.parent / "copy")], capture_output=True)
    if done.returncode:
        pytest.skip("this file system has no reflinks")
    (photo.parent / "copy").unlink()
    shutil.rmtree(repository.folder / "build")
    photo.unlink()
    repository.dvc("checkout", "--quiet")
    for path in (photo, repository.folder / "build/numbers/large.txt"):
        blocks = subprocess.run(["filefrag", "-v", str(path)], capture_output=True, text=True, check=True).stdout
        assert "shared" in blocks, blocks

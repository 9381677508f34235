"""DVC's cache: it shares disk blocks with the workspace where that is safe, and edits there never change it."""

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
    """A committed repository after its stage has run, with a file in data/."""
    repository = small_repository.create(tmp_path_factory.mktemp("cache") / "repository")
    (repository.folder / "data").mkdir()
    (repository.folder / "data/image.txt").write_text("an image " * 10_000)
    repository.dvc("add", "--quiet", "data")
    repository.commit()
    return repository


@pytest.fixture
def repository(made, tmp_path) -> SmallRepository:
    return made.copy(tmp_path / "repository")


def damaged(repository: SmallRepository) -> list[str]:
    """The objects in the cache whose content does not match their hash."""
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in repository.cached().items()}
    return [name for name, found in hashes.items() if name.removesuffix(".dir") != found]


def test_edits_in_the_workspace_do_not_change_the_cache(repository):
    files = ("data/image.txt", "build/value.txt", "build/numbers/large.txt")
    before = {path: repository.read(path) for path in files}
    assert len(repository.cached()) == 5 and damaged(repository) == []

    repository.set(2)
    repository.dvc("repro", "--quiet")
    repository.set(3)
    repository.run("python", "write.py")  # without DVC, which would remove the outputs first
    for path in files:
        with (repository.folder / path).open("r+") as file:  # like an editor that saves in place
            file.write("another")
    assert len(repository.cached()) == 8 and damaged(repository) == []

    repository.git("checkout", "--quiet", ".")
    repository.dvc("checkout", "--force", "--quiet")
    assert {path: repository.read(path) for path in files} == before
    assert repository.status() == {}


def test_data_and_outputs_are_writable(repository):
    shutil.rmtree(repository.folder / "data")
    shutil.rmtree(repository.folder / "build")
    repository.dvc("checkout", "--quiet")
    for path in ("data/image.txt", "build/value.txt", "build/numbers/large.txt"):
        assert (repository.folder / path).stat().st_mode & stat.S_IWUSR, path


def test_with_reflinks_the_workspace_shares_blocks_with_the_cache(repository):
    if not shutil.which("filefrag"):
        pytest.skip("needs filefrag, which shows the blocks of a file")
    image = repository.folder / "data/image.txt"
    done = subprocess.run(["cp", "--reflink=always", str(image), str(image.parent / "copy")], capture_output=True)
    if done.returncode:
        pytest.skip("this file system has no reflinks")
    (image.parent / "copy").unlink()
    shutil.rmtree(repository.folder / "build")
    image.unlink()
    repository.dvc("checkout", "--quiet")
    for path in (image, repository.folder / "build/numbers/large.txt"):
        blocks = subprocess.run(["filefrag", "-v", str(path)], capture_output=True, text=True, check=True).stdout
        assert "shared" in blocks, blocks

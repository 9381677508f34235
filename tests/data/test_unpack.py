"""Archives are unpacked completely or not at all, and never outside their folder."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from flowers.common.errors import UserError
from flowers.data import unpack

FILES = {"flowers/rose/a b.jpg": b"1" * 5000, "flowers/яблоня/'ü',\".jpg": b"2", "LICENSE.txt": b"free"}


def tar(path, members: dict, mode: str = "w:gz"):
    """Members are bytes, or a function that changes the TarInfo."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                content(info)
                archive.addfile(info)
    return path


def zipped(path, members: dict, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, **options)
    return path


def tree(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_of(tmp_path, archive) -> str:
    """The error of an archive that cannot be unpacked, after which nothing of it is left."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        unpack.unpack([archive], tmp_path / "out" / "here")
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "out"}
    assert str(archive) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("suffix", "mode"), [("tgz", "w:gz"), ("tar", "w"), ("tar.xz", "w:xz")])
def test_tars_are_unpacked(tmp_path, suffix, mode):
    unpack.unpack([tar(tmp_path / f"a.{suffix}", FILES, mode)], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert {path.name for path in tmp_path.iterdir()} == {f"a.{suffix}", "out"}


def test_zips_are_unpacked_and_other_files_copied_beside(tmp_path):
    (tmp_path / "labels.mat").write_bytes(b"labels")
    with zipfile.ZipFile(zipped(tmp_path / "a.zip", FILES), "a") as archive:
        archive.writestr("flowers/", "")
    unpack.unpack([tmp_path / "a.zip", tmp_path / "labels.mat"], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES | {"labels.mat": b"labels"}


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "a/../evil.jpg", "/evil.jpg"])
def test_members_outside_the_folder_are_errors(tmp_path, make, name):
    archive = make(tmp_path / ("a.tgz" if make is tar else "a.zip"), {"good.jpg": b"1", name: b"2"})
    assert f"'{name}' lies outside the folder" in error_of(tmp_path, archive)


def kind(letter: bytes):
    def change(info: tarfile.TarInfo) -> None:
        info.type = letter
        info.linkname = "/etc/passwd"

    return change


@pytest.mark.parametrize("letter", [tarfile.SYMTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_errors(tmp_path, letter):
    assert "'bad one'" in error_of(tmp_path, tar(tmp_path / "a.tgz", {"good.jpg": b"1", "bad one": kind(letter)}))


def test_a_link_in_a_zip_is_an_error(tmp_path):
    link = zipfile.ZipInfo("bad one")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'bad one' is a link" in error_of(tmp_path, tmp_path / "a.zip")


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_truncated_archive_is_an_error_that_names_the_file(tmp_path, make, share):
    noise = os.urandom(40_000)
    archive = make(tmp_path / ("a.tgz" if make is tar else "a.zip"), {"good.jpg": b"1", "large.jpg": noise})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    assert "not a whole archive" in error_of(tmp_path, archive)


def test_an_altered_zip_is_found_by_the_checksum_of_its_member(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("rose.jpg", b"flower" * 1000)
    archive.write_bytes(archive.read_bytes().replace(b"flower", b"flowed", 1))
    assert "not a whole archive" in error_of(tmp_path, archive)


def test_an_encrypted_zip_is_an_error(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", {"rose.jpg": b"1"}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "encrypted" in error_of(tmp_path, tmp_path / "a.zip")


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="file"):
        unpack.unpack([tar(tmp_path / "a.tgz", FILES)], tmp_path / "file" / "out")


def test_a_killed_unpack_leaves_no_folder_and_the_next_one_is_clean(tmp_path):
    tar(tmp_path / "a.tar", {f"{number}.jpg": b"1" for number in range(20_000)}, "w")
    code = "from pathlib import Path; from flowers.data.unpack import unpack; unpack([Path('a.tar')], Path('out'))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / ".out.part" / "100.jpg").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.part").exists(), "the kill came too late for this test"
    unpack.unpack([tar(tmp_path / "b.tgz", FILES)], tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.part").exists()

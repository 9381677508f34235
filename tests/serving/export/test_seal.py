"""The digest that a file holds of itself."""

import hashlib

import pytest

from flowers.serving.export import seal


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "file"
    made.write_bytes(b"\0" * 10 + seal.BLANK.encode() + b"rest" * 3_000_000)
    return made


def test_a_sealed_file_holds_the_digest_of_itself_with_zeros_in_its_place(file):
    blank = file.read_bytes()
    seal.seal(file)
    digest = hashlib.sha256(blank).hexdigest()
    assert file.read_bytes() == blank.replace(b"0" * 64, digest.encode())
    seal.check(file)


@pytest.mark.parametrize("place", [0, 30, 200, -1])
def test_a_change_anywhere_is_found(file, place):
    seal.seal(file)
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        seal.check(file)


def test_the_digest_may_lie_across_two_pieces_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "_CHUNK", 50)
    file = tmp_path / "file"
    for before in range(60):
        file.write_bytes(b"." * before + seal.BLANK.encode() + b"end")
        expected = hashlib.sha256(file.read_bytes()).hexdigest()
        seal.seal(file)
        assert expected.encode() in file.read_bytes()
        seal.check(file)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"another file", "not a file that `flowers export`")])
def test_a_file_that_was_not_sealed_is_named(tmp_path, content, reason):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        seal.check(tmp_path / "file")

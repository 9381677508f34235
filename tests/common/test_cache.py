"""The user's cache folder: its sizes are shown, and clearing removes its files and nothing else."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowers.common import cache, locks
from flowers.common.errors import UserError
from flowers.data import fetch
from flowers.model import weights
from flowers.model.feature_layer import FeatureLayer
from flowers.training import activation_cache

CONTENT = bytes(2_000_000)
KINDS = ("archives", "weights", "activations")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOWERS_CACHE_LIMIT", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "cache"


@pytest.fixture
def shown(capsys):
    """The lines that `show` prints."""

    def look() -> list[str]:
        capsys.readouterr()
        cache.show()
        return capsys.readouterr().out.splitlines()

    return look


@pytest.fixture
def filled(cheap_backbone, tmp_path, folder) -> Path:
    """A cache with an archive, weights, and activations of three images in two precisions, at two feature layers."""
    items = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
        items.append(activation_cache.Item(path, hashlib.sha256(path.read_bytes()).hexdigest()))
    tensors = {"some/kernel": np.ones(3, np.float32)}
    activation_cache.stored(items[:1], [FeatureLayer(0)], tensors, "float32")
    activation_cache.stored(items, [FeatureLayer(0), FeatureLayer(3)], tensors, "float32")
    activation_cache.stored(items[:2], [FeatureLayer(0)], tensors, "bfloat16")
    (folder / "archives").mkdir()
    (folder / "archives" / "[red]photos.tgz").write_bytes(bytes(1_200_000))
    (folder / "weights").mkdir()
    weights.write(tensors, folder / "weights" / "resnet50-0123456789abcdef.npz")
    return folder


def sizes(folder: Path) -> dict[Path, int]:
    """Sizes of the files in a folder, without locks, which are empty and may stay."""
    return {
        path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    }


def bytes_in(folder: Path) -> int:
    return sum(sizes(folder).values())


def test_clearing_an_empty_cache_makes_nothing(folder, shown, capsys):
    assert [line.split()[0] for line in shown()[:3]] == ["0"] * 3
    cache.clear("all")
    assert capsys.readouterr().out.splitlines() == [f"{kind}: 0 bytes freed" for kind in KINDS]
    assert not folder.exists()


def test_every_kind_is_shown_with_its_size_and_folder(filled, shown):
    kinds = {line.split()[-1]: line for line in shown()[:3]}
    assert kinds.keys() == {str(filled / kind) for kind in KINDS}
    assert "1.2 MB" in kinds[str(filled / "archives")]
    assert f"{bytes_in(filled / 'activations') / 1000:.1f} kB" in kinds[str(filled / "activations")]
    assert shown()[-1] == "Limit of the activations (FLOWERS_CACHE_LIMIT): 20.0 GB"


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("", "20.0 GB"),
        ("500MB", "500.0 MB"),
        ("2GiB", "2.1 GB"),
        ("1.5 tb", "1.5 TB"),
        ("1500", "1.5 kB"),
        ("0", "0 bytes"),
    ],
)
def test_the_limit_is_a_size_in_common_notations(filled, shown, monkeypatch, value, limit):
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", value)
    assert shown()[-1].endswith(f": {limit}")


def test_a_limit_that_is_no_size_is_an_error_and_does_not_prevent_clearing(filled, monkeypatch, capsys):
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", "plenty")
    with pytest.raises(UserError, match=r"FLOWERS_CACHE_LIMIT: 'plenty' .* 20 GB"):
        cache.show()
    cache.clear("activations")
    assert not sizes(filled / "activations")


@pytest.mark.parametrize("kind", ["weights", "all"])
def test_clearing_a_kind_removes_it_and_prints_the_bytes(filled, capsys, kind):
    before = sizes(filled)
    cleared = KINDS if kind == "all" else (kind,)
    lines = [f"{each}: {bytes_in(filled / each):,} bytes freed" for each in cleared]
    cache.clear(kind)
    assert capsys.readouterr().out.splitlines() == lines
    kept = {path: size for path, size in before.items() if path.relative_to(filled).parts[0] not in cleared}
    assert sizes(filled) == kept and len(kept) < len(before)


def test_other_files_are_not_removed(filled):
    """FLOWERS_CACHE may be a folder with other files in it."""
    mine = [
        filled / name for name in ("notes.txt", "weights/mine.h5", "archives/old/a.zip", "activations/relu/relu.py")
    ]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    cache.clear("all")
    assert sizes(filled) == dict.fromkeys(mine, 4)


def test_what_a_kill_left_of_activations_is_cleared(filled):
    array = next((filled / "activations").glob("*-float32-*/pooled/*.npy"))
    array.with_name("half.partial").write_bytes(bytes(1000))
    array.with_name("without description.npy").write_bytes(bytes(500))
    cache.clear("activations")
    assert not sizes(filled / "activations")


def test_what_a_kill_left_of_a_download_is_cleared(folder, capsys):
    staging = folder / "archives" / ".a.tgz.part"
    staging.mkdir(parents=True)
    (staging / "tmp1234").write_bytes(bytes(1500))
    cache.clear("archives")
    assert capsys.readouterr().out == "archives: 1,500 bytes freed\n"
    assert not staging.exists()


def test_temporary_weights_are_removed_only_after_ten_minutes(filled, monkeypatch):
    replace, seen = Path.replace, []

    def move(path, target):
        if path.name.startswith(".weights-"):  # written, and not yet under its own name
            seen.append(path.name)
            cache.clear("weights")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", move)
    ready = filled / "weights" / "resnet50-fedcba9876543210.npz"
    weights.write({"some/kernel": np.ones(3, np.float32)}, ready)
    assert list(sizes(filled / "weights")) == [ready]  # the file being written was kept
    abandoned = filled / "weights" / seen[0]
    abandoned.write_bytes(bytes(300))
    os.utime(abandoned, (time.time() - 3600, time.time() - 3600))
    cache.clear("weights")
    assert not sizes(filled / "weights")


def test_clearing_waits_for_a_process_that_computes(filled):
    with locks.held(filled / "activations" / ".lock", ""):
        clearing = threading.Thread(target=cache.clear, args=["activations"])
        clearing.start()
        clearing.join(0.3)
        assert clearing.is_alive() and bytes_in(filled / "activations")
    clearing.join(60)
    assert not bytes_in(filled / "activations")


def test_clearing_waits_for_an_archive_that_is_being_fetched(folder, capsys):
    half, go_on = threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            half.set()
            go_on.wait(60)
            self.wfile.write(CONTENT[len(CONTENT) // 2 :])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/a.tgz"
        fetched = []
        checksum = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
        fetching = threading.Thread(target=lambda: fetched.append(fetch.verified("a.tgz", [address], checksum)))
        fetching.start()
        assert half.wait(60)
        deadline = time.monotonic() + 60
        while not list((folder / "archives").glob(".*.part/*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        clearing = threading.Thread(target=cache.clear, args=["archives"])
        clearing.start()
        clearing.join(0.3)
        assert clearing.is_alive()
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
    fetching.join(60)
    clearing.join(60)
    assert fetched == [folder / "archives" / "a.tgz"]  # the download was complete
    assert "archives: 2,000,000 bytes freed" in capsys.readouterr().out
    assert not sizes(folder)


def test_the_command_imports_no_slow_module():
    heavy = ("numpy", "tensorflow", "keras", "mlflow", "pandas", "PIL", "requests")
    code = f"""if True:
        import sys, flowers.cli
        sys.argv = ["flowers", "cache"]
        try:
            flowers.cli.main()
        except SystemExit as end:
            assert not end.code
        print("imported:", *[name for name in {heavy} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "activations" in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"

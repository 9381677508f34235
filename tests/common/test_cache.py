"""The user's cache folder: what is shown is what is there, and clearing it removes that and nothing else."""

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
    """What `show` prints: the lines of the table as lists of their cells, and the other lines."""

    def look() -> tuple[list[list[str]], list[str]]:
        capsys.readouterr()
        cache.show()
        lines = capsys.readouterr().out.splitlines()
        rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
        return rows, [line for line in lines if line[0] not in "│┏┡├└┃"]

    return look


@pytest.fixture
def filled(cheap_backbone, tmp_path, folder) -> Path:
    """A cache with an archive, weights, and activations of three photos in two precisions, at two feature_layers."""
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
    """Of the files in a folder; locks, which are empty, may stay."""
    return {
        path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    }


def bytes_in(folder: Path) -> int:
    return sum(sizes(folder).values())


@pytest.mark.parametrize("there", [False, True])
def test_an_empty_cache_is_a_line_and_clearing_it_makes_nothing(folder, capsys, there):
    if there:
        folder.mkdir()
    cache.show()
    cache.clear("all")
    assert capsys.readouterr().out.splitlines() == [
        f"{folder} holds nothing",
        *[f"{kind}: 0 bytes freed" for kind in KINDS],
    ]
    assert folder.exists() == there and not sizes(folder)


def test_every_kind_is_listed_with_its_size(filled, shown):
    rows, others = shown()
    assert others[0] == str(filled)
    stored = bytes_in(filled / "activations")
    assert others[1:] == [f"Activations take {stored / 1000:.1f} kB of the 20.0 GB they may (FLOWERS_CACHE_LIMIT)."]
    (store,) = (filled / "activations").glob("*-float32-*")
    prefix = store.name[:8]
    cells = {row[1]: row for row in rows}
    assert [row[0] for row in rows] == ["archives", "weights", "activations", "", "", "total"]
    assert cells["[red]photos.tgz"] == ["archives", "[red]photos.tgz", "", "1.2 MB", ""]
    assert [(row[1], row[2], row[4]) for row in rows[2:-1]] == [
        (f"{prefix} bfloat16 pooled", "2", "just now"),
        (f"{prefix} float32 {FeatureLayer(3).name}", "3", "just now"),
        (f"{prefix} float32 pooled", "3", "just now"),
    ]
    assert cells[f"{prefix} float32 pooled"][3] == f"{bytes_in(store / 'pooled') / 1000:.1f} kB"
    assert rows[-1] == ["total", "", "", f"{bytes_in(filled) / 1e6:.1f} MB", ""]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-50, "just now"),
        (30, "just now"),
        (90, "1 minute ago"),
        (2 * 3600 + 600, "2 hours ago"),
        (6.9 * 86400, "6 days ago"),
    ],
)
def test_the_last_use_is_that_of_the_shard_used_last(filled, shown, seconds, said):
    descriptions = sorted((filled / "activations").glob("*-float32-*/pooled/*.json"))
    assert len(descriptions) == 2
    os.utime(descriptions[0], (0, 0))
    os.utime(descriptions[1], (time.time() - seconds, time.time() - seconds))
    assert shown()[0][-2][-1] == said


def test_a_use_long_ago_is_a_date(filled, shown):
    moment = time.mktime((2024, 2, 29, 12, 0, 0, 0, 0, -1))
    for description in (filled / "activations").glob("*-float32-*/pooled/*.json"):
        os.utime(description, (moment, moment))
    assert shown()[0][-2][-1] == "2024-02-29"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "20.0 GB"),
        ("20 GB", "20.0 GB"),
        ("500MB", "500.0 MB"),
        ("2GiB", "2.1 GB"),
        ("1.5 tb", "1.5 TB"),
        (" 3 k ", "3.0 kB"),
        ("1500", "1.5 kB"),
        ("7 bytes", "7 bytes"),
        ("0", "0 bytes"),
    ],
)
def test_the_limit_is_a_size_as_people_write_it(filled, shown, monkeypatch, value, said):
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", value)
    assert f" of the {said} they may" in shown()[1][-1]


def test_a_limit_that_is_no_size_is_told_and_does_not_keep_from_clearing(filled, monkeypatch, capsys):
    monkeypatch.setenv("FLOWERS_CACHE_LIMIT", "plenty")
    with pytest.raises(UserError, match=r"FLOWERS_CACHE_LIMIT: 'plenty' .* 20 GB"):
        cache.show()
    cache.clear("activations")
    assert not sizes(filled / "activations")


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_clearing_a_kind_removes_it_and_tells_the_bytes(filled, shown, capsys, kind):
    before = sizes(filled)
    cleared = KINDS if kind == "all" else (kind,)
    lines = [f"{each}: {bytes_in(filled / each):,} bytes freed" for each in cleared]
    cache.clear(kind)
    assert capsys.readouterr().out.splitlines() == lines
    kept = {path: size for path, size in before.items() if path.relative_to(filled).parts[0] not in cleared}
    assert sizes(filled) == kept and len(kept) < len(before)
    if kept:
        assert {row[0] for row in shown()[0]} == {*KINDS, "total", ""} - {*cleared} - (
            {""} if kind == KINDS[2] else set()
        )


def test_what_is_not_the_cache_s_is_neither_listed_nor_removed(filled, shown):
    """As where FLOWERS_CACHE is a folder with other things in it."""
    mine = [
        filled / name for name in ("notes.txt", "weights/mine.h5", "archives/old/a.zip", "activations/relu/relu.py")
    ]
    rows = shown()[0]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    assert shown()[0] == rows
    cache.clear("all")
    assert sizes(filled) == dict.fromkeys(mine, 4)


def test_a_damaged_shard_counts_no_views(filled, shown):
    for description in (filled / "activations").glob("*-float32-*/pooled/*.json"):
        description.write_text("{")
    assert shown()[0][-2][2] == "0"


def test_what_a_kill_left_of_activations_is_listed_and_cleared(filled, shown):
    array = next((filled / "activations").glob("*-float32-*/pooled/*.npy"))
    array.with_name("half.partial").write_bytes(bytes(1000))
    array.with_name("without description.npy").write_bytes(bytes(500))
    assert shown()[0][-2] == ["", "unfinished", "", "1.5 kB", ""]
    cache.clear("activations")
    assert not sizes(filled / "activations")


def test_what_a_kill_left_of_a_download_is_listed_and_cleared(folder, shown, capsys):
    staging = folder / "archives" / ".a.tgz.part"
    staging.mkdir(parents=True)
    (staging / "tmp1234").write_bytes(bytes(1500))
    assert shown()[0][0] == ["archives", "unfinished", "", "1.5 kB", ""]
    cache.clear("archives")
    assert capsys.readouterr().out == "archives: 1,500 bytes freed\n"
    assert not staging.exists()


def test_temporary_weights_are_removed_unless_they_may_be_being_written(filled, shown, monkeypatch):
    savez, seen = np.savez, []

    def save(file, **arrays):
        savez(file, **arrays)
        seen.append(Path(file).name)
        assert ["", "unfinished"] in [row[:2] for row in shown()[0]]
        cache.clear("weights")

    monkeypatch.setattr(np, "savez", save)
    ready = filled / "weights" / "resnet50-fedcba9876543210.npz"
    weights.write({"some/kernel": np.ones(3, np.float32)}, ready)
    assert list(sizes(filled / "weights")) == [ready]  # it was not taken from under its writer
    abandoned = filled / "weights" / seen[0]
    abandoned.write_bytes(bytes(300))
    os.utime(abandoned, (time.time() - 3600, time.time() - 3600))
    cache.clear("weights")
    assert not sizes(filled / "weights")


def test_a_process_that_computes_is_waited_for(filled, capsys):
    with locks.held(filled / "activations" / ".lock", ""):
        clearing = threading.Thread(target=cache.clear, args=["activations"])
        clearing.start()
        clearing.join(0.3)
        assert clearing.is_alive() and bytes_in(filled / "activations")
    clearing.join(60)
    assert not bytes_in(filled / "activations")


def test_an_archive_that_is_being_fetched_is_waited_for(folder, shown, capsys):
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
        checksum = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
        fetching = threading.Thread(target=lambda: fetched.append(fetch.verified("a.tgz", [address], checksum)))
        fetching.start()
        assert half.wait(60)
        deadline = time.monotonic() + 60
        while ["archives", "unfinished"] not in [row[:2] for row in (shown()[0] if sizes(folder) else [])]:
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
    assert fetched == [folder / "archives" / "a.tgz"]  # it arrived, whole
    assert "archives: 2,000,000 bytes freed" in capsys.readouterr().out
    assert not sizes(folder)


def test_the_command_imports_nothing_that_takes_seconds(filled):
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
    assert "float32 pooled" in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"

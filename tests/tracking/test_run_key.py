"""The run key: it changes with what decides a result, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.tracking import run_key

CHECKOUT = Path(__file__).parents[2]
FILES = {
    "pyproject.toml": '[tool.flowers.numerics]\ntensorflow = "2.0"\nkeras = "3.0"\nnumpy = "2.0"\n',
    "src/flowers/train.py": "train\n",
    "src/flowers/network/deep/resnet.py": "resnet\n",
    "src/flowers/templates/page.html": "<h1>page</h1>\n",
    "src/flowers/templates/deep/part.html": "<p>part</p>\n",
    "src/flowers/cli.py": "cli\n",
    "build/images.csv": "path,label\n",
    "build/split.csv": "path,label,subset\n",
    "build/weights/resnet50.npz": "weights",
    "build/images/rose/innocent.py": "an image with an odd name",
    "dvc.yaml": """
stages:
  download: {deps: [src/flowers/cli.py]}
  train: {deps: [src/flowers/train.py, "${model.weights}", build/images]}
  evaluate: {deps: [src/flowers/network, src/flowers/templates/page.html, src/flowers/templates/deep, build/split.csv]}
""",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key() -> str:
    return run_key.compute(params.load(paths.PARAMS)).key


def replace(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "unfreeze_blocks: 0", "unfreeze_blocks: 1"),
        ("params.yaml", "- 128\n  - 64", "- 64\n  - 128"),
        ("params.yaml", "views: 2", "views: 3"),
        ("params.yaml", "learning_rate: 0.0005", "learning_rate: 0.002"),
        ("params.yaml", "gallery: 12", "gallery: 24"),
        ("pyproject.toml", 'numpy = "2.0"', 'numpy = "2.1"'),
        ("src/flowers/train.py", "train", "trained"),
        ("src/flowers/network/deep/resnet.py", "resnet", "vgg"),
        ("src/flowers/templates/deep/part.html", "part", "piece"),
        ("build/images.csv", "path", "paths"),
        ("build/split.csv", "path", "paths"),
        ("build/weights/resnet50.npz", "weights", "heights"),
    ],
)
def test_what_decides_a_result_changes_the_key(checkout, file, old, new):
    before = key()
    replace(file, old, new)
    assert key() != before
    replace(file, new, old)
    assert key() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "# Every parameter", "# Each parameter"),
        ("params.yaml", "method: auto", "method: random"),
        ("params.yaml", "dropout: 0.2", "dropout: 0.20"),
        ("src/flowers/cli.py", "cli", "command line"),
        ("build/images/rose/innocent.py", "image", "picture"),
        ("dvc.yaml", "stages:", "# the pipeline\nstages:"),
    ],
)
def test_what_decides_nothing_leaves_the_key(checkout, file, old, new):
    before = key()
    replace(file, old, new)
    assert key() == before


def test_a_renamed_source_file_changes_the_key(checkout):
    before = key()
    Path("src/flowers/network/deep/resnet.py").rename("src/flowers/network/deep/vgg.py")
    assert key() != before


def test_the_key_is_the_same_in_another_folder(checkout, tmp_path_factory, monkeypatch):
    before = key()
    shutil.copytree(checkout, elsewhere := tmp_path_factory.mktemp("elsewhere") / "copy")
    monkeypatch.chdir(elsewhere)
    assert key() == before


def test_each_digest_follows_its_own_file(checkout):
    before = run_key.compute(params.load(paths.PARAMS))
    replace("build/split.csv", "path", "paths")
    after = run_key.compute(params.load(paths.PARAMS))
    assert after.split != before.split
    assert (after.data, after.weights, after.code) == (before.data, before.weights, before.code)


@pytest.mark.parametrize("file", ["build/split.csv", "src/flowers/train.py", "dvc.yaml"])
def test_a_missing_file_is_an_error_naming_it(checkout, file):
    Path(file).unlink()
    with pytest.raises(UserError, match=file):
        key()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dvc.yaml", "stages: {train: {}}", "'evaluate' is missing"),
        ("dvc.yaml", "stages: [", "not valid YAML"),
        ("dvc.yaml", "stages: {train: {}, evaluate: {}}", "no source file"),
        ("pyproject.toml", "[tool.flowers]", "numerics"),
    ],
)
def test_a_broken_file_is_an_error_naming_it(checkout, file, text, message):
    Path(file).write_text(text)
    with pytest.raises(UserError, match=message):
        key()

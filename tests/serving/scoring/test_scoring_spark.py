"""Scoring with Spark: the same output as on this machine, and a second run continues after a kill."""

import fnmatch
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import Image

from flowers.common.errors import UserError
from flowers.data import images
from flowers.serving import sources
from flowers.serving.scoring import run

LABELS = pyarrow.dataset.partitioning(pa.schema([("label", pa.string())]), flavor="hive")
CLASSES = ["NA", "café au lait", "rose: 1/2"]


def test_without_pyspark_the_error_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "flowers.serving.scoring.spark", raising=False)
    with pytest.raises(UserError, match=r"needs PySpark: `make extras`, or pip install -e '.\[spark\]'$"):
        run.score(None, run.Request("photos", "out", "spark", str(tmp_path)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PySpark leaves a pipe to Java open
def test_without_java_the_error_names_what_to_install(monkeypatch):
    spark = pytest.importorskip("flowers.serving.scoring.spark")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    message = r"Java did not start; version 17 or later.*apt install openjdk-17-jre-headless"
    with pytest.raises(UserError, match=message), spark.session("local[1]"):
        raise AssertionError("Spark started")


def test_the_pattern_for_spark_matches_the_same_names_as_the_walk():
    patterns = [f"*.{part}" for part in sources.GLOB.removeprefix("*.{").removesuffix("}").split(",")]
    for name, taken in {"a.jpg": True, "b.c.TiF": True, "a.jpgx": False, "jpg": False, "a.jpg.gz": False}.items():
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) == taken


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """A folder with a real, random network in `build/model`, images, and the outputs of both engines."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("PySpark is not installed (make extras)")
    if not shutil.which("java"):
        pytest.skip("Java is not installed (Debian: openjdk-17-jre-headless)")
    from flowers.common import paths
    from flowers.model import classifier, keras_model, weights
    from flowers.model.feature_layer import FeatureLayer
    from flowers.model.trainable import TrainablePart

    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONWARNINGS", "ignore")
        tensors = weights.random_tensors()
        paths.WEIGHTS.parent.mkdir(parents=True)
        weights.write(tensors, paths.WEIGHTS)
        head = TrainablePart(FeatureLayer(0), {}, keras_model.head(3, (), 0.0, seed=1)).get_tensors()
        head["head_logits/kernel"] /= 100  # a random network's features are that large
        description = classifier.Description(CLASSES, [], 0.0, 0, "bfloat16", weights.digest(tensors), 1.0, 0.5)
        classifier.save(paths.MODEL, description, head)
        make_images(folder / "photos")
        files = sorted((folder / "photos").glob("[0-9]*.png"))
        found = np.log(classifier.load(paths.MODEL, paths.WEIGHTS).probabilities(np.stack([*map(images.load, files)])))
        head["head_logits/bias"] -= np.median(found, axis=0)  # without it all images would get one label
        classifier.save(paths.MODEL, description, head)
        score("local")
        shutil.copytree("local", "spark1")  # what `spark[1]` would match as a pattern
        score("spark")
        yield folder
    shutil.rmtree(folder)  # pytest would keep it


def make_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "so[x] {a}").mkdir(parents=True)
    names = [f"{number:02d}.png" for number in range(38)] + ["so[x] {a}/rös e%20+1.JPG", "so[x] {a}/b.jpeg"]
    for name in names:
        pixels = random.integers(0, 256, (50, 60, 3)) * random.random(3) ** 2
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    (folder / "empty.png").touch()
    (folder / "broken.jpg").write_bytes(b"no image")
    with (folder / "huge.bmp").open("wb") as file:
        file.truncate(33 * 2**20)
    (folder / "notes.txt").touch()


OUTPUTS = {"local": "local", "spark": "spark[1]"}


def score(engine: str, **options) -> None:
    master = "local[2]" if engine == "spark" else None
    run.score(
        None, run.Request("photos", OUTPUTS[engine], engine, str(Path("build/model")), True, master=master, **options)
    )


def table(folder: str) -> pd.DataFrame:
    return pyarrow.parquet.read_table(folder, partitioning=LABELS).to_pandas().sort_values("path", ignore_index=True)


@pytest.mark.slow
def test_spark_writes_the_same_rows_as_this_machine(scored):
    local, spark = table("local"), table(OUTPUTS["spark"])
    assert list(spark["path"]) == list(local["path"]) and len(spark) == 43
    good = local["label"].notna()
    assert good.sum() == 40 and local["label"].nunique() > 1
    plain = [name for name in local.columns if name not in ("best", "error")]
    pd.testing.assert_frame_equal(spark.loc[good, plain], local.loc[good, plain], check_exact=True)
    assert all(list(a) == list(b) for a, b in zip(spark.loc[good, "best"], local.loc[good, "best"], strict=True))
    errors = spark[~good].set_index("path")["error"]
    assert (
        errors["empty.png"] == "empty file, or cannot be read" and errors["huge.bmp"] == "larger than 33,554,432 bytes"
    )
    assert errors["broken.jpg"] == local.set_index("path")["error"]["broken.jpg"]


@pytest.mark.slow
def test_both_outputs_have_the_same_types_in_spark_and_arrow(scored):
    types = {}
    for engine in ("local", "spark"):
        file = next(Path(OUTPUTS[engine], "label=__HIVE_DEFAULT_PARTITION__").glob("*.parquet"))
        types[engine] = pyarrow.parquet.read_schema(file).remove_metadata()
    assert types["local"] == types["spark"]
    from flowers.serving.scoring import spark

    with spark.session("local[2]") as session:
        tables = [session.read.parquet(path) for path in ("local", r"spark\[1\]")]
        assert tables[0].schema == tables[1].schema and tables[0].schema["label"].dataType.typeName() == "string"
        assert tables[0].exceptAll(tables[1]).where("error is null").count() == 0
        found = {row["label"] for row in tables[0].select("label").distinct().collect()}
    assert found == {*table("local")["label"].dropna(), None}


@pytest.mark.slow
def test_rows_of_a_killed_run_are_not_scored_again(scored, capsys):
    """A kill leaves no _SUCCESS, the output of the finished tasks, and a temporary folder."""
    before = table(OUTPUTS["spark"])
    lost = sorted(Path(OUTPUTS["spark"]).glob("label=*/part-00001-*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in Path(OUTPUTS["spark"]).glob("label=*/part-00000-*.parquet")}
    assert lost and kept
    for path in (*lost, Path(OUTPUTS["spark"], "_SUCCESS")):
        path.unlink()
    Path(OUTPUTS["spark"], "_temporary/0/task").mkdir(parents=True)
    there = len(table(OUTPUTS["spark"]))
    score("spark")
    assert f"{there:,} of them before" in capsys.readouterr().err
    pd.testing.assert_frame_equal(table(OUTPUTS["spark"]).drop(columns="best"), before.drop(columns="best"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert Path(OUTPUTS["spark"], "_SUCCESS").exists() and not Path(OUTPUTS["spark"], "_temporary").exists()


@pytest.mark.slow
def test_a_finished_output_and_one_of_another_engine_are_left_alone(scored, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path(OUTPUTS["spark"]).rglob("*")}
    score("spark")
    assert "complete already: 43 images" in capsys.readouterr().err
    with pytest.raises(UserError, match="engine spark, now local"):
        run.score(None, run.Request("photos", OUTPUTS["spark"], model="build/model", every_class=True))
    after = {path: path.stat().st_mtime_ns for path in Path(OUTPUTS["spark"]).rglob("*") if path.name != ".lock"}
    assert after.keys() - before.keys() == set() and all(
        after[path] == before[path] for path in after if path.suffix == ".parquet"
    )


@pytest.mark.slow
def test_errors_of_spark_are_one_line(scored):
    with pytest.raises(UserError, match=r"^nowhere: no such folder$"):
        run.score(None, run.Request("nowhere", "out", "spark", "build/model", master="local[2]"))
    with pytest.raises(UserError, match=r"^Spark: .*(S3A|s3a).*$"):
        run.score(None, run.Request("s3a://bucket/photos", "out", "spark", "build/model", master="local[2]"))
    assert not Path("out").exists()

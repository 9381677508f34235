"""The commands `flowers compare` and `flowers report`, in a checkout with a result."""

import json
from pathlib import Path

import pytest
from results import table
from tracking_world import SCORES
from typer.testing import CliRunner

from flowers import cli, tracking
from flowers.common.errors import UserError
from flowers.tracking import StoreUnreachable, lookup


@pytest.fixture
def checkouts(world, tmp_path):
    """This checkout, with two wrong predictions, and the folder of another one, with none."""
    world.write("build/evaluation/predictions.csv", table([0, 30]).to_csv(index=False))
    other = tmp_path / "other"
    for name in ("build/model/model.json", "params.yaml"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((world.folder / name).read_bytes())
    (other / "build/evaluation").mkdir()
    (other / "build/evaluation/predictions.csv").write_text(table().to_csv(index=False))
    return world, str(other)


def flowers(*arguments: str):
    return CliRunner().invoke(cli.app, arguments, catch_exceptions=False, env={"COLUMNS": "160"})


def test_compare_prints_tables(checkouts):
    _, other = checkouts
    done = flowers("compare", other, "workspace")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert "Scores on 60 images" in text and "96.7 %" in text
    assert "'workspace' has 96.7 % accuracy" in text and "too few images differ for a significant result" in text


def test_details_are_on_the_page_and_not_on_the_terminal(checkouts):
    world, other = checkouts
    done = flowers("compare", other, "workspace")
    page = (world.folder / "build/compare.html").read_text()
    for detail in ("Classes", "Confusions that changed", "Images that flipped", "daisy/0.jpg"):
        assert detail in page and detail not in done.stdout
    assert done.stderr.splitlines()[-1].endswith("build/compare.html")


def test_compare_prints_markdown_and_writes_a_page(checkouts, tmp_path):
    _, other = checkouts
    done = flowers("compare", "--markdown", "--html", str(tmp_path / "new" / "page.html"), other, "workspace")
    assert done.stdout.startswith("## 'workspace' against ") and "| accuracy | 100.0 % | 96.7 % | -3.3 |" in done.stdout
    page = (tmp_path / "new" / "page.html").read_text()
    assert page.startswith("<!doctype html>") and "daisy/0.jpg" in page


@pytest.fixture
def logged(checkouts):
    """The checkouts, this one with its run in MLflow."""
    world, other = checkouts
    world.write("build/evaluation/metrics.json", json.dumps(SCORES | {"accuracy": 0.9667}))  # 58 of 60
    tracking.publish(world.params)
    return world, other


def test_the_page_is_logged_once_to_the_run_of_the_result(logged):
    world, other = logged
    (run,) = world.runs(only=1)
    name = f"{Path(other).name}.html"
    seen = []
    for _ in range(2):
        done = flowers("compare", other, "workspace", "--log")
        assert f"artifact compare/{name} of run {run.info.run_id[:8]} " in done.stderr
        (found,) = world.runs(only=1)
        seen.append((world.artifacts(found), world.points(found), found.data.tags, found.info.end_time))
    assert seen[0] == seen[1] and f"compare/{name}" in seen[0][0]
    page = lookup.artifact(world.client(), run, f"compare/{name}")
    assert page == (world.folder / "build/compare.html").read_bytes()


def test_the_page_goes_to_a_run_that_was_named_and_the_baseline_may_be_a_run(logged):
    world, other = logged
    (run,) = world.runs(only=1)
    flowers("compare", other, run.info.run_id, "--log")
    assert f"compare/{Path(other).name}.html" in world.artifacts(run)
    with pytest.raises(UserError, match="no run in MLflow has the predictions of 'other'"):
        flowers("compare", run.info.run_id, other, "--log")


def test_a_store_that_cannot_be_reached_does_not_lose_the_page(checkouts, monkeypatch, closed_port):
    world, other = checkouts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        flowers("compare", other, "workspace", "--log")
    assert "daisy/0.jpg" in (world.folder / "build/compare.html").read_text()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["workspace"], "name at least two results, such as: flowers compare main workspace"),
        (["workspace", "workspace"], "'workspace' is named twice"),
        (["workspace", "nowhere"], "'nowhere' is no run"),
    ],
)
@pytest.mark.usefixtures("checkouts")
def test_names_that_cannot_be_compared_raise_an_error(names, message):
    with pytest.raises(UserError, match=message):
        flowers("compare", *names)


def test_a_report_has_the_comparison_and_links_to_figures(checkouts):
    world, other = checkouts
    assert flowers("report", "--against", other).exit_code == 0
    text = (world.folder / "build/report.md").read_text()
    assert text.startswith("## 'workspace' against 'other'\n") and other not in text
    assert "![Confusion matrix](evaluation/confusion.png)" in text


def test_a_report_without_a_result_to_compare_with_gives_the_reason_and_the_scores(checkouts):
    world, _ = checkouts
    done = flowers("report", "--against", "nowhere")
    assert done.exit_code == 0 and "'nowhere' is no run" in done.stderr
    text = (world.folder / "build/report.md").read_text()
    assert "Nothing to compare with: 'nowhere'" in text and "| accuracy | 96.7 % |" in text


def test_a_report_without_a_result_in_this_checkout_raises_an_error(checkouts):
    world, other = checkouts
    (world.folder / "build/evaluation/predictions.csv").unlink()
    with pytest.raises(UserError, match="`dvc repro` makes it"):
        flowers("report", "--against", other)

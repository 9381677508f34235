"""The commands `flowers compare` and `flowers report`, in a checkout with a result."""

import pytest
from results import table
from typer.testing import CliRunner

from flowers import cli
from flowers.common.errors import UserError


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

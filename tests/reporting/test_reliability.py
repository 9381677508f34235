"""The reliability diagrams: their bars, and equal bytes for equal tables."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image
from reporting_world import world
from scipy.stats import binomtest

from flowers.metrics import calibration
from flowers.reporting import figures, reliability


@pytest.fixture
def table():
    return calibration.reliability(*world(5, 400, sharpness=2.0))


def share_of(path, colour, within=6):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return (np.abs(pixels - np.array(to_rgb(colour)) * 255).max(axis=2) < within).mean()


def test_the_same_tables_give_the_same_bytes_and_others_do_not(table, tmp_path):
    for name, drawn in (("1", table), ("2", table), ("3", table.iloc[1:])):
        reliability.diagrams({"As trained": drawn}, tmp_path / name)
    one, two, three = ((tmp_path / name).read_bytes() for name in "123")
    assert one == two != three


def test_the_gap_between_accuracy_and_probability_is_coloured_in_both_directions(table, tmp_path):
    for name, accuracy in (("exact", table["confidence"]), ("less", 0.2), ("more", 1.0)):
        reliability.diagrams({"": table.assign(accuracy=accuracy)}, tmp_path / name)
    gaps = {name: share_of(tmp_path / name, reliability.GAP_COLOUR) for name in ("exact", "less", "more")}
    assert min(gaps["less"], gaps["more"]) > 0.05 > 0.005 > gaps["exact"]  # of the picture; the legend remains


def test_every_table_has_its_own_diagram(table, tmp_path):
    for count in (1, 2):
        reliability.diagrams({str(number): table for number in range(count)}, tmp_path / str(count))
    bars = {}
    for count in (1, 2):
        with Image.open(tmp_path / str(count)) as image:
            bars[count] = share_of(tmp_path / str(count), figures.SKY) * image.width * image.height
    assert bars[2] == pytest.approx(2 * bars[1], rel=0.02)  # there is one legend


def test_whiskers_are_wilson_intervals_at_the_middle_of_their_bins(table, tmp_path, monkeypatch):
    drawn = []
    original = Axes.vlines
    monkeypatch.setattr(
        Axes, "vlines", lambda self, x, low, high, **more: drawn.append((x, low, high)) or original(self, x, low, high)
    )
    reliability.diagrams({"": table}, tmp_path / "r.png")
    ((places, low, high),) = drawn
    for number, row in table.reset_index().iterrows():
        expected = binomtest(round(row["accuracy"] * row["photos"]), int(row["photos"])).proportion_ci(method="wilson")
        assert (low[number], high[number]) == pytest.approx((expected.low, expected.high))
        assert places[number] == pytest.approx((row["low"] + row["high"]) / 2)

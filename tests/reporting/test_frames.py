"""Frames of cards that belong together, in each form of a document."""

import io

from rich.console import Console

from flowers.reporting import document
from flowers.reporting.document import Card, Document, Frame, Frames, Section

PNG = b"\x89PNG and so on"
FRAMES = Frames(
    [
        Frame(
            ["rose, or rather tulip?", "train: rose/<b>.jpg"], [Card(PNG, ["the photo"], "bad"), Card(None, ["a rose"])]
        ),
        Frame(["2 photos, alike"], [Card(PNG, ["a_1.jpg"])]),
    ]
)
DOCUMENT = Document("Check", ["Two things."], [Section("What was found", [FRAMES])])


def test_a_page_shows_every_frame_with_its_pictures():
    page = document.html(DOCUMENT)
    assert page.startswith("<!doctype html>")
    assert page.count('<div class="frame">') == 2 and page.count("<figure") == 3
    assert page.count("data:image/png;base64,") == 2 and page.count("not here") == 1
    assert '<figure class="bad">' in page
    assert "rose/&lt;b&gt;.jpg" in page and "<b>" not in page
    assert (
        page.index("or rather tulip?") < page.index("the photo") < page.index("a rose") < page.index("2 photos, alike")
    )


def test_a_terminal_and_markdown_show_the_lines_below_each_other():
    console = Console(file=io.StringIO(), width=200)
    document.show(DOCUMENT, console)
    shown = console.file.getvalue().splitlines()
    assert [line for line in shown if line.startswith("  ")] == [
        "  rose, or rather tulip? · train: rose/<b>.jpg",
        *("    the photo", "    a rose"),
        "  2 photos, alike",
        "    a_1.jpg",
    ]
    lines = document.markdown(DOCUMENT).splitlines()
    assert lines[lines.index("- 2 photos, alike") + 1] == "  - a\\_1.jpg"

"""A document on a page, as Markdown and on a terminal: what each of them shows of pictures and cards."""

import io

import pytest
from rich.console import Console

from flowers.reporting import document, figures
from flowers.reporting.document import Card, Document, Gallery, Picture, Section, Table

JPEG = b"\xff\xd8 one", b"\xff\xd8 two"


def png(width: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + width.to_bytes(4) + bytes(9)


def page(*parts, sections=1) -> str:
    return document.html(Document("A title", ["A lead."], [Section(f"Part {n}", parts) for n in range(sections)]))


def test_a_picture_is_shown_in_the_size_that_its_letters_were_drawn_in():
    assert document.DPI == figures.DPI
    assert 'width="96"' in page(Picture(png(150), "a figure"))


def test_a_picture_wider_than_a_page_says_how_to_enlarge_it():
    assert 'class="picture large"' in page(Picture(png(3000), "a figure"))
    assert 'class="picture"' in page(Picture(png(900), "a figure"))


def test_a_card_holds_one_picture_or_two():
    one, two = (page(Gallery([Card(JPEG[0], ["rose"], beside=beside)])) for beside in (None, JPEG[1]))
    assert (one.count("<img"), two.count("<img")) == (1, 2)
    assert 'class="gallery"' in one and 'class="gallery pairs"' in two


def test_the_title_of_a_gallery_stands_above_its_cards_everywhere():
    gallery = Gallery([Card(None, ["rose", "1.jpg"])], "rose taken for tulip")
    shown = Document("A title", [], [Section("Mistakes", [gallery])])
    terminal = io.StringIO()
    document.show(shown, Console(file=terminal, width=80))
    for text in (document.html(shown), document.markdown(shown), terminal.getvalue()):
        assert text.index("Mistakes") < text.index("rose taken for tulip") < text.index("1.jpg")


@pytest.mark.parametrize(("sections", "links"), [(2, 0), (5, 5)])
def test_a_long_page_begins_with_links_to_its_sections(sections, links):
    text = page("words", sections=sections)
    assert text.count('<a href="#s') == links
    assert text.count('<section id="s') == sections


def test_a_folded_table_is_whole_though_it_is_closed():
    text = page(Table(["class"], [["rose"], ["tulip"]], folded=True))
    assert "<summary>2 rows</summary>" in text and "rose" in text and "tulip" in text

"""README and documentation: short, every link leads somewhere, every command exists."""

import re
from pathlib import Path

import pytest
import typer.main

from flowers import cli

CHECKOUT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", "DATA.md", "MODEL_CARD.md", "docs/*.md")
    for path in CHECKOUT.glob(pattern)
)


def text(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def links(page: str) -> set[str]:
    """The targets of all links and pictures that stay in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL))
    return {target for target in found if not re.match(r"\w+:", target)}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M
    )
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def code(page: str) -> str:
    """The code spans of a page, and its console blocks without their output and comments."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", text(page), flags=re.DOTALL)
    typed = [
        line.partition("#")[0]
        for language, block in blocks
        if language == "console"
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    without_blocks = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    return "\n".join([*typed, *re.findall(r"`([^`\n]+)`", without_blocks)])


def test_readme_fits_on_one_page():
    assert len(text("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (CHECKOUT / page).parent / path if path else CHECKOUT / page
        assert linked.exists(), f"{target}: no such file"
        assert linked.resolve().is_relative_to(CHECKOUT), f"{target}: outside of the repository"
        assert not anchor or anchor in anchors(linked), f"{target}: no such heading"


def test_every_page_and_picture_of_the_documentation_is_linked():
    linked = {
        ((CHECKOUT / page).parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(page)
    }
    files = [path for path in (CHECKOUT / "docs").iterdir() if path.suffix != ".css" and path.name != "index.md"]
    assert [path.name for path in files if path not in linked] == []


def test_every_page_is_in_the_navigation_of_the_site():
    named = re.findall(r": ([\w-]+\.md)$", text("mkdocs.yml"), re.MULTILINE)
    assert {path.name for path in (CHECKOUT / "docs").glob("*.md")} <= set(named)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_flowers_exists_with_its_options(page):
    root = typer.main.get_command(cli.app)
    for words in re.findall(r"\bflowers ((?:--debug )?[a-z][\w-]*(?: [^\n|&;)]*)?)", code(page)):
        if words.split()[0] in ("&&", "local"):  # `cd flowers && make`, and the name of an experiment
            continue
        command, *rest = words.removeprefix("--debug ").split()
        assert command in root.commands, f"flowers {words}"
        found = root.commands[command]
        if hasattr(found, "commands") and rest and not rest[0].startswith("-"):
            assert rest[0] in found.commands, f"flowers {words}"
            found = found.commands[rest[0]]
        options = {option for parameter in getattr(found, "params", []) for option in parameter.opts}
        unknown = {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)} - options - {"--help"}
        assert not unknown, f"flowers {words}"


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_exists(page):
    targets = set(re.findall(r"^([a-z][\w-]*):", text("Makefile"), re.MULTILINE))
    for words in re.findall(r"\bmake ((?:[a-z][\w-]*|[A-Z]+=\S+)(?: \S+)*)", code(page)):
        target = next((word for word in words.split() if re.fullmatch(r"[a-z][\w-]*", word)), None)
        assert target is None or target in targets, f"make {words}"

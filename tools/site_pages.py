"""A hook of MkDocs: pages of the repository's root become pages of the site, and links to source files become names.

In the repository a link such as ../DATA.md or ../src/flowers/data/catalogue.py leads to the file. The site has no copy
of the sources, so there the name alone is shown.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "DATA.md", "MODEL_CARD.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Point the links of a page to the pages of the site."""
    inside = page.file.src_uri not in PAGES

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path, _, anchor = target.partition("#")
        if path == "README.md" or path == "../README.md":
            return f"[{text}](index.md)"
        place = path.removeprefix("../") if inside else path.removeprefix("docs/")
        known = inside != path.startswith("../") or place in PAGES
        if not known or files.get_file_from_path(place) is None:
            return text
        return f"[{text}]({place}{'#' if anchor else ''}{anchor})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)\s]+)\)", link, markdown)

"""The web page: its files, and example images to try it with."""

import csv
import html
from collections.abc import Callable, Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from flowers.common import paths
from flowers.data import formats, images
from flowers.serving.stream import Model

WEB = Path(__file__).parent / "web"
EXAMPLES = 10

_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "server.js": "text/javascript"}
# What is particular to the page of a server.
_SERVED = {
    "scripts": '<script src="page/server.js" defer></script>',
    "privacy": "It is sent to this server and nowhere else.",
    "footer": ' For programs: <a href="openapi.json">openapi.json</a>.',
}
# What every browser shows.
_BROWSERS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}

# The page loads everything from its own server. The policy blocks everything else, including inline scripts.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


class Named(Protocol):
    """What the page says of a model."""

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        ...

    @property
    def threshold(self) -> float | None:
        """The probability below which a prediction has low confidence."""
        ...


def router(model: Model, examples: Path | None, visited: Callable[[], None]) -> APIRouter:
    """The page, its files, and example images of a folder (see `choose`); `visited` is called at each visit."""
    content, chosen = index(model).encode(), choose(examples) if examples else []
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def page() -> Response:
        visited()
        return Response(content, media_type="text/html", headers=_HEADERS | _PAGE_HEADERS)

    @routes.get("/page/{name}")
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response((WEB / name).read_bytes(), media_type=_ASSETS[name], headers=_HEADERS)

    @routes.get("/examples")
    def listed() -> list[dict[str, str]]:
        return [{"url": f"examples/{number}.jpg", "label": file.parent.name} for number, file in enumerate(chosen)]

    @routes.get("/examples/{name}")
    def example(name: str) -> Response:
        found = {f"{number}.jpg": file for number, file in enumerate(chosen)}.get(name)
        if found is None:
            raise HTTPException(404)
        try:
            return Response(images.read(found), media_type=_BROWSERS[found.suffix.lower()], headers=_HEADERS)
        except images.UnreadableImage as error:
            raise HTTPException(404, f"this example {error}") from None

    @routes.get("/typical")
    def typical(label: str) -> Response:
        if model.examples is None or label not in model.classes:
            raise HTTPException(404)
        file = model.examples / f"{model.classes.index(label)}.jpg"
        if not file.is_file():
            raise HTTPException(404)
        return Response(file.read_bytes(), media_type="image/jpeg", headers=_HEADERS)

    return routes


def index(model: Named, parts: Mapping[str, str] | None = None) -> str:
    """The page as HTML, with the model's classes and its threshold for low confidence.

    `parts` are scripts, privacy and footer; the default is those of the server.
    """
    page = (WEB / "index.html").read_text(encoding="utf-8")
    values = {
        "count": str(len(model.classes)),
        "threshold": "" if model.threshold is None else f"{model.threshold:.4f}",
        "accept": formats.ACCEPT,
        **(parts or _SERVED),
        "classes": html.escape(", ".join(model.classes)),  # the last one: a class may be called {{accept}}
    }
    for name, value in values.items():
        page = page.replace(f"{{{{{name}}}}}", value)
    return page


def choose(folder: Path) -> list[Path]:
    """At most 10 images of a folder <class>/<file>, of many classes; test images if a split lies beside the folder."""
    split, files = folder.parent / paths.SPLIT.name, [Path(*path.parts[-2:]) for path in sorted(folder.glob("*/*"))]
    if split.is_file():
        with split.open(encoding="utf-8", newline="") as table:
            files = sorted(Path(row["path"]) for row in csv.DictReader(table) if row["subset"] == "test") or files
    by_class: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in _BROWSERS and (folder / file).is_file():
            by_class.setdefault(file.parent.name, []).append(folder / file)
    number = min(len(by_class), EXAMPLES)
    spread = [list(by_class.values())[place * len(by_class) // number] for place in range(number)]
    taken = [file for file in chain(*zip_longest(*spread)) if file is not None][:EXAMPLES]
    return sorted(taken, key=lambda file: file.parent.name)

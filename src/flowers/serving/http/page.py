"""The page for people: its files, and photos to try it with."""

import csv
import html
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from flowers.common import paths
from flowers.data import images
from flowers.serving.http.limits import Refused
from flowers.serving.stream import Model

WEB = Path(__file__).parent / "web"
EXAMPLES = 10

_ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}
_SHOWN = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}  # by any browser

# The page needs nothing but its own server: a script or a picture from elsewhere, or written into the page, is a fault.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


@dataclass(frozen=True)
class Example:
    """A photo to try the page with, and its class."""

    file: Path
    label: str


def router(model: Model, examples: Path | None, visited: Callable[[], None]) -> APIRouter:
    """The page at /, which asks /predict and /explain of the application that includes this router.

    Also /page/<asset>, /examples (a list of {"url", "label"}) and /examples/<n>.jpg. `examples` is a folder of photos,
    <class>/<file>, as `choose` takes them. `visited` is called at each visit: there will be photos to explain.
    """
    pages, chosen = index(model).encode(), choose(examples) if examples else []

    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    def page() -> Response:
        visited()
        return Response(pages, media_type="text/html", headers=_HEADERS | _PAGE_HEADERS)

    @routes.get("/page/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise Refused(404, "there is no such file")
        return Response((WEB / name).read_bytes(), media_type=_ASSETS[name], headers=_HEADERS)

    @routes.get("/examples", include_in_schema=False)
    def listed() -> list[dict[str, str]]:
        return [{"url": f"examples/{number}.jpg", "label": example.label} for number, example in enumerate(chosen)]

    @routes.get("/examples/{name}", include_in_schema=False)
    def example(name: str) -> Response:
        found = {f"{number}.jpg": example.file for number, example in enumerate(chosen)}.get(name)
        try:
            if found is None:
                raise Refused(404, "there is no such example")
            return Response(images.read(found), media_type=_SHOWN[found.suffix.lower()], headers=_HEADERS)
        except images.UnreadableImage as reason:
            raise Refused(404, f"the example {reason}") from None

    return routes


def index(model: Model) -> str:
    """The page as HTML, with the classes that the model knows and the threshold of its unsure answers."""
    names = ", ".join(model.classes)
    sure = "" if model.threshold is None else f"{model.threshold:.4f}"
    filled = {"{{count}}": str(len(model.classes)), "{{classes}}": html.escape(names), "{{threshold}}": sure}
    page = (WEB / "index.html").read_text(encoding="utf-8")
    for place, text in filled.items():
        page = page.replace(place, text)
    return page


def choose(folder: Path) -> list[Example]:
    """At most 10 photos of a folder <class>/<file>, of as many classes as can be, in the order of the classes.

    Of build/images they are test photos, which the model has not seen in training: the table of the split lies beside
    it. Without such a table, any.
    """
    files = [Path(*path.parts[-2:]) for path in sorted(folder.glob("*/*"))]
    by_class: dict[str, list[Example]] = {}
    for file in _test_photos(folder.parent / paths.SPLIT.name) or files:
        if file.suffix.lower() in _SHOWN and (folder / file).is_file():
            by_class.setdefault(file.parent.name, []).append(Example(folder / file, file.parent.name))
    spread = [list(by_class.values())[place] for place in _spread(len(by_class), EXAMPLES)]
    taken = [example for example in chain(*zip_longest(*spread)) if example is not None][:EXAMPLES]
    return sorted(taken, key=lambda example: example.label)


def _test_photos(split: Path) -> list[Path]:
    if not split.is_file():
        return []
    with split.open(encoding="utf-8", newline="") as file:
        return sorted(Path(row["path"]) for row in csv.DictReader(file) if row["subset"] == "test")


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` numbers evenly spread over 0 ... count - 1, or all of them."""
    return [place * count // min(count, wanted) for place in range(min(count, wanted))]

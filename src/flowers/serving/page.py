"""The page for people: its files, photos to try it with, and what on a photo speaks for a class."""

import asyncio
import csv
import html
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from flowers import images, paths
from flowers.errors import UserError
from flowers.serving import explain as gradcam
from flowers.serving.stream import Model

Explain = Callable[[Model, np.ndarray, int], bytes]  # model, pixels, class number: a JPEG

WEB = Path(__file__).parent / "web"
EXAMPLES = 10
LARGEST = 16 * 2**20  # bytes of a photo that is sent

_ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}
_SHOWN = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}  # by any browser
_WAITING = 8  # explanations asked for and not yet given; each holds a photo
_PATIENCE = 30.0  # seconds for a photo to arrive

# The page needs nothing but its own server: a script or a picture from elsewhere, or written into the page, is a fault.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}

_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


@dataclass(frozen=True)
class Example:
    """A photo to try the page with, and its class."""

    file: Path
    label: str


class _Refused(Exception):
    """A request that is answered with an error: the status and a line for people."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def router(model: Model, explain: Explain = gradcam.picture, examples: Path | None = None) -> APIRouter:
    """The page at /, which also asks /predict of the application that includes this router.

    Also /page/<asset>, /examples (a list of {"url", "label"}), /examples/<n>.jpg, and POST /explain, which takes a
    photo as it is and answers with the JPEG that `explain` makes of it. Errors are {"error": a line}. `examples` is a
    folder of photos, <class>/<file>, as `choose` takes them. The first explanation takes seconds (TensorFlow traces
    the network): it is begun when the application starts, in the thread that makes them all, one at a time.
    """
    pages, explained = index(model).encode(), _Explained(model, explain)
    chosen = choose(examples) if examples else []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        explained.warm()
        yield
        explained.close()

    routes = APIRouter(lifespan=lifespan)

    @routes.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(pages, media_type="text/html", headers=_HEADERS | _PAGE_HEADERS)

    @routes.get("/page/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            return _error(404, "there is no such file")
        return Response((WEB / name).read_bytes(), media_type=_ASSETS[name], headers=_HEADERS)

    @routes.get("/examples", include_in_schema=False)
    def listed() -> list[dict[str, str]]:
        return [{"url": f"examples/{number}.jpg", "label": example.label} for number, example in enumerate(chosen)]

    @routes.get("/examples/{name}", include_in_schema=False)
    def example(name: str) -> Response:
        found = {f"{number}.jpg": example.file for number, example in enumerate(chosen)}.get(name)
        try:
            if found is None:
                return _error(404, "there is no such example")
            return Response(images.read(found), media_type=_SHOWN[found.suffix.lower()], headers=_HEADERS)
        except images.UnreadableImage as reason:
            return _error(404, f"the example {reason}")

    @routes.post(
        "/explain",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "Grad-CAM: colour where it speaks for it."}},
        openapi_extra=_OPENAPI,
    )
    async def explanation(request: Request, label: str | None = None) -> Response:
        """What on a photo speaks for the class `label`, the most probable one without it."""
        try:
            return Response(await explained.answer(request, label), media_type="image/jpeg", headers=_HEADERS)
        except _Refused as refused:
            return _error(refused.status, refused.line)

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


class _Explained:
    """Explanations, made one at a time in a thread, so that they take a core at most and memory for one photo."""

    def __init__(self, model: Model, explain: Explain) -> None:
        self._model, self._explain = model, explain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting = 0

    def warm(self) -> None:
        """Load the network, and begin the first explanation.

        The network is loaded before anybody can ask: two threads that import TensorFlow at once break it. What goes
        wrong in the first explanation will go wrong again when somebody asks for one, and is told then.
        """
        blank = np.zeros((images.SIZE, images.SIZE, 3), np.uint8)
        self._model.probabilities(blank[None])
        self._thread.submit(self._explain, self._model, blank, 0)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def answer(self, request: Request, label: str | None) -> bytes:
        """A JPEG for the photo in the request's body. Raises _Refused."""
        if label is not None and label not in self._model.classes:
            raise _Refused(404, f"the model knows no class {label[:80]!r}")
        if self._waiting >= _WAITING:
            raise _Refused(503, "too many explanations are waited for; try again in a moment")
        self._waiting += 1
        try:
            photo = await _body(request)
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._made, photo, label)
        except images.UnreadableImage as reason:
            raise _Refused(400, str(reason)) from None
        except UserError as reason:
            raise _Refused(409, str(reason)) from None
        finally:
            self._waiting -= 1

    def _made(self, photo: bytes, label: str | None) -> bytes:
        pixels = images.load(photo)
        if label is None:
            number = int(self._model.probabilities(pixels[None])[0].argmax())
        else:
            number = list(self._model.classes).index(label)
        return self._explain(self._model, pixels, number)


async def _body(request: Request) -> bytes:
    """The request's body. Raises _Refused as soon as it is seen to be too large, and where it does not come."""
    too_large = _Refused(413, f"the photo is larger than {LARGEST // 2**20} MB")
    if int(request.headers.get("content-length", 0)) > LARGEST:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for part in request.stream():
                if len(body) + len(part) > LARGEST:
                    raise too_large
                body += part
    except TimeoutError:
        raise _Refused(408, "the photo did not arrive in time") from None
    except ClientDisconnect:
        raise _Refused(400, "the photo did not arrive") from None
    return bytes(body)


def _error(status: int, line: str) -> JSONResponse:
    again = {"Retry-After": "2"} if status == 503 else {}
    return JSONResponse({"error": " ".join(line.split())}, status, headers=_HEADERS | again)

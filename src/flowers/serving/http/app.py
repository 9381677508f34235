"""The application: POST /predict, POST /explain, GET /health, the web page, and FastAPI's description of the API."""

import importlib.metadata
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from flowers.serving import results
from flowers.serving.http import errors, page, schema
from flowers.serving.http.batching import Scorer
from flowers.serving.http.bodies import RequestBodies
from flowers.serving.http.explaining import Explainer
from flowers.serving.http.limits import Limits


def create(scorer: Scorer, explainer: Explainer, limits: Limits, examples: Path | None = None) -> FastAPI:
    """The application around a scorer and an explainer; its page offers images of a folder <class>/<file>."""
    app = FastAPI(
        title="flowers",
        version=importlib.metadata.version("flowers"),
        description='Names the flower on an image. An error of the application is one line: {"error": "..."}. '
        "A request that cannot be parsed (400) or is above the limit of connections (503) gets plain text.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=schema.FAILURES,
        exception_handlers=errors.HANDLERS,
    )
    app.add_middleware(RequestBodies, limits=limits)
    app.include_router(page.router(scorer.model, examples, explainer.warm))
    app.get("/docs", include_in_schema=False)(_swagger)
    model = scorer.model

    @app.post(
        "/predict",
        summary="Name the flower on an image",
        response_model_exclude_none=True,
        openapi_extra=schema.IMAGE,
        dependencies=[Depends(_require_image)],
    )
    async def predict(request: Request, options: Annotated[schema.Options, Query()]) -> schema.Prediction:
        """The body is the encoded image itself."""
        row = await scorer.predict(await request.body())
        threshold = model.threshold if options.threshold is None else options.threshold
        (found,) = results.predictions(model.classes, row, threshold)
        assert found is not None
        every = dict(zip(model.classes, row.probabilities[0].tolist(), strict=True)) if options.every_class else None
        return schema.Prediction(**asdict(found), probabilities=every)

    @app.post(
        "/explain",
        summary="Show the regions of an image that support a class (Grad-CAM)",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "The image in grey, those regions in colour"}},
        openapi_extra=schema.IMAGE,
        dependencies=[Depends(_require_image)],
    )
    async def explain(request: Request, label: str | None = None) -> Response:
        """The body is the encoded image itself; the class is `label`, by default the most probable one."""
        return Response(await explainer.explanation(await request.body(), label), media_type="image/jpeg")

    @app.get("/health", summary="Check that the model works")
    async def health() -> dict[str, str]:
        """200 where the model has scored an image within the last 10 s, or scores a blank one now; otherwise 503."""
        if not await scorer.healthy():
            raise HTTPException(503, "the model does not work")
        return {"status": "ok"}

    return app


def _require_image(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind != "application/octet-stream":
        command = f"curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' .../{request.url.path.lstrip('/')}"
        raise HTTPException(415, f"the body must be an encoded image: {command}")


def _swagger() -> HTMLResponse:
    """FastAPI's page, with a line that shows for as long as Swagger UI is not loaded."""
    page = get_swagger_ui_html(openapi_url="openapi.json", title="flowers", swagger_favicon_url="data:,")
    place = '<div id="swagger-ui">'
    note = 'This page loads Swagger UI from cdn.jsdelivr.net. Offline, read <a href="openapi.json">openapi.json</a>.'
    return HTMLResponse(bytes(page.body).decode().replace(place, f"{place}<p>{note}</p>"))

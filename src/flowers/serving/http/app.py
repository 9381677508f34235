"""The application: which request is answered by what, and how each mistake is told, in one line of JSON."""

import asyncio
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flowers.serving.http import docs, explaining, page, protocol
from flowers.serving.http.batching import Scorer, Unreadable
from flowers.serving.http.explaining import Explainer
from flowers.serving.http.limits import Bodies, Gone, Limits, Refused, media_type, require_photo, unless_gone

HUNG_UP = 499  # for the log: nobody is left to read it


def create(scorer: Scorer, explainer: Explainer, limits: Limits, examples: Path | None = None) -> FastAPI:
    """The application around a running scorer and explainer; its page offers photos of a folder <class>/<file>."""
    app = FastAPI(
        title="flowers",
        version=importlib.metadata.version("flowers"),
        description="Names the flower on a photo. Every error is one line: " + '{"error": "..."}.',
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            Refused: _refused,
            Unreadable: _unreadable,
            RequestValidationError: _invalid,
            HTTPException: _not_here,
            ClientDisconnect: _gone,
            Gone: _gone,
            Exception: _broken,
        },
    )
    bodies = Bodies(limits)
    for router in (
        _answering(scorer, bodies, limits),
        explaining.router(explainer, bodies),
        _watching(scorer),
        page.router(scorer.model, examples, explainer.warm),
    ):
        app.include_router(router)

    @app.get("/docs", include_in_schema=False)
    def described() -> HTMLResponse:
        return HTMLResponse(docs.page(app.openapi()))

    return app


def _answering(scorer: Scorer, bodies: Bodies, limits: Limits) -> APIRouter:
    """What the model is asked through."""
    router = APIRouter()
    parsing = asyncio.Lock()  # JSON takes up to 20 times its size in memory, so requests take turns
    model = scorer.model

    @router.post(
        "/predict",
        summary="Name the flower on one photo",
        response_model=protocol.Answer,
        openapi_extra=docs.PHOTO,
        responses=docs.ERRORS,
    )
    async def predict(request: Request, asked: Annotated[protocol.Asked, Query()]) -> JSONResponse:
        """The body is the photo as it is: JPEG, PNG, WebP, TIFF, BMP, GIF or PPM."""
        require_photo(request)
        async with bodies.read(request) as photo:
            (row,) = await unless_gone(request, scorer.ask([photo]))
        threshold = model.threshold if asked.threshold is None else asked.threshold
        return JSONResponse(protocol.answer(model.classes, row, threshold, asked.every_class))

    @router.post(
        "/invocations",
        summary="Name the flowers on several photos, as MLflow's servers do",
        response_model=protocol.Predictions,
        openapi_extra=docs.FORMS,
        responses=docs.ERRORS,
    )
    async def invocations(request: Request) -> JSONResponse:
        """The body has one of MLflow's JSON forms, with photos in base64; the answers come in their order."""
        if media_type(request) != "application/json":
            raise Refused(415, "send JSON, and say so: -H 'Content-Type: application/json'")
        async with bodies.read(request) as body:
            async with parsing:
                asked = await asyncio.to_thread(protocol.invocation, body, limits)
            probabilities = await unless_gone(request, scorer.ask(asked.photos))
        threshold = model.threshold if asked.threshold is None else asked.threshold
        found = protocol.predictions(model.classes, probabilities, threshold, asked.every_class)
        return JSONResponse({"predictions": found})

    return router


def _watching(scorer: Scorer) -> APIRouter:
    """What tells a supervisor whether the server works."""
    router = APIRouter()

    @router.get("/ping", summary="Whether the model answers", responses=docs.ALIVE, response_class=PlainTextResponse)
    @router.get("/health", include_in_schema=False)
    async def ping() -> Response:
        """200 where the model has answered in the last 10 s, or does so now; else 503."""
        if not await scorer.answers():
            raise Refused(503, "the model does not answer")
        return Response("\n", media_type="application/json")  # as MLflow's servers say it

    @router.get("/version", summary="The version of MLflow whose protocol this is", response_class=PlainTextResponse)
    async def version() -> str:
        """Known without importing MLflow, which would take seconds."""
        return importlib.metadata.version("mlflow")

    return router


def failure(refused: Refused) -> JSONResponse:
    """A mistake in the one form that all have."""
    return JSONResponse({"error": refused.message}, refused.status, refused.headers)


async def _refused(_: Request, error: Any) -> Response:
    return failure(error)


async def _unreadable(request: Request, error: Any) -> Response:
    place = f"image in row {error.row}: " if request.url.path == "/invocations" else ""
    return failure(Refused(400, f"{place}{error.reason}"))


async def _invalid(_: Request, error: Any) -> Response:
    return failure(Refused(400, protocol.problem(error.errors())))


async def _not_here(request: Request, error: Any) -> Response:
    message = str(error.detail)
    if error.status_code == 404:
        message = "there is nothing here; /docs says what there is"
    if error.status_code == 405:
        message = f"{request.method} is not answered here; use {error.headers['Allow']}"
    return failure(Refused(error.status_code, message, error.headers))


async def _gone(_: Request, __: Any) -> Response:
    return Response(status_code=HUNG_UP)


async def _broken(_: Request, __: Any) -> Response:
    return failure(Refused(500, "internal error"))  # starlette raises it again, for the log

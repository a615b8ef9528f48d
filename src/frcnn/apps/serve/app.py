"""The application: its paths and what each answers."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response

from frcnn.apps.serve.batcher import Batcher, Busy
from frcnn.apps.serve.bodies import (
    FILES,
    FILES_SCHEMA,
    EncodedPictures,
    Failure,
    Format,
    Given,
    LabelledPicture,
    Row,
    files_of,
    form_schema,
    open_form,
    read_pictures,
    read_rows,
    sentence,
)
from frcnn.apps.serve.guard import Guard
from frcnn.apps.serve.labels import pack_labels
from frcnn.apps.serve.metrics import Metrics
from frcnn.apps.serve.page import PAGE, media_type
from frcnn.apps.serve.presence import unless_gone
from frcnn.apps.serve.settings import Settings
from frcnn.data.faults import ImageError
from frcnn.draw import colours
from frcnn.errors import UserError
from frcnn.inference.pictures import PictureDetector

LOGGER = logging.getLogger(__name__)

DESCRIPTION = "Detects objects in pictures. Errors are JSON: a sentence under `detail`."
_STATUSES = {
    400: "malformed",
    401: "no token, or a wrong one",
    408: "too slow to arrive",
    413: "too large",
    415: "neither JSON nor a multipart form",
    422: "no picture, or something else than was asked for",
    429: "too many requests from one address",
    500: "a fault of the server's own",
    503: "busy, or ending; Retry-After says when to ask again",
}
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": reason} for status, reason in _STATUSES.items()
}
# For the documentation: the guard has looked at the token by then.
_TOKEN = [Depends(HTTPBearer(auto_error=False, description="Where the server has a token."))]
_DETECT_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": form_schema({FILES: FILES_SCHEMA}, [FILES]),
        "application/json": {"schema": EncodedPictures.model_json_schema()},
    },
}
_LABELS_SCHEMA = {
    "format": {"type": "string", "enum": list(get_args(Format))},
    "labels": {
        "type": "string",
        "description": "JSON: rows as /v1/detect gives them, perhaps with width and height.",
    },
    FILES: FILES_SCHEMA | {"description": "The pictures, one for each row, or none."},
}
_LABELS_BODY = {
    "required": True,
    "content": {"multipart/form-data": form_schema(_LABELS_SCHEMA, ["format", "labels"])},
}


def create_app(detector: PictureDetector, settings: Settings) -> Guard:
    """An ASGI application that serves a detector.

    Args:
        detector: what detects.
        settings: its limits.
    """
    metrics = Metrics()
    batcher = Batcher(detector, settings.batch, settings.queue, metrics)

    @asynccontextmanager
    async def running(_: FastAPI):
        async with batcher:
            yield

    # The usual pages of documentation load their scripts from elsewhere.
    app = FastAPI(
        title="frcnn", description=DESCRIPTION, lifespan=running, docs_url=None, redoc_url=None
    )
    _add_page(app)
    _add_reports(app, detector, settings, metrics)
    _add_detection(app, batcher, settings)
    _add_labels(app, detector.classes, settings)
    _add_handlers(app)
    return Guard(app, settings, metrics, batcher.end)


def _add_page(app: FastAPI) -> None:
    for path, file in PAGE.items():

        async def page(_: Request, file: Path = file) -> FileResponse:
            return FileResponse(file, media_type=media_type(file))

        app.add_route(path, page, include_in_schema=False)


def _add_reports(
    app: FastAPI, detector: PictureDetector, settings: Settings, metrics: Metrics
) -> None:
    @app.get("/health", summary="Whether the server answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/metrics",
        summary="Counters, as Prometheus reads them",
        response_class=Response,
        dependencies=_TOKEN,
    )
    async def report() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.get(
        "/v1/model",
        summary="The detector's classes, and the limits of requests",
        dependencies=_TOKEN,
    )
    async def model() -> dict[str, Any]:
        return {
            "classes": detector.classes,
            "colours": colours(len(detector.classes)),
            "limits": {"bytes": settings.body, "pictures": settings.pictures},
        }


def _add_detection(app: FastAPI, batcher: Batcher, settings: Settings) -> None:
    @app.post(
        "/v1/detect",
        summary="Find objects in pictures",
        response_model=list[Row],
        responses=_FAILURES,
        dependencies=_TOKEN,
        openapi_extra={"requestBody": _DETECT_BODY},
    )
    async def detect(
        request: Request, score: Annotated[float, Query(ge=0, le=1)] = 0.5
    ) -> Response:
        """Rows as `frcnn predict --json` writes them, one a picture, in the order of the request.

        Detections scored lower than `score` are left out.
        """
        given = await read_pictures(request, settings)
        try:
            found = await unless_gone(request, batcher.detect([each.data for each in given]))
        except Busy as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        rows = []
        for picture, each in zip(given, found, strict=True):
            if isinstance(each, ValueError):
                problem = each.problem if isinstance(each, ImageError) else str(each)
                raise HTTPException(422, f"{picture.name}: {problem}.")
            rows.append({"image": picture.name, "detections": each.above(score).to_dict()})
        return JSONResponse(rows)


def _add_labels(app: FastAPI, classes: tuple[str, ...], settings: Settings) -> None:
    turns = asyncio.Semaphore(2)  # the rows of a request may take some hundred MB

    @app.post(
        "/v1/labels",
        summary="Detections as labels of a data set",
        response_class=Response,
        responses=_FAILURES | {200: {"content": {"application/zip": {}}}},
        dependencies=_TOKEN,
        openapi_extra={"requestBody": _LABELS_BODY},
    )
    async def labels(request: Request) -> Response:
        """A zip that `frcnn train` takes once it is unpacked, with the pictures that were sent.

        The header `Frcnn-Notes` says, percent-encoded, what the format has no place for.
        """
        async with open_form(request, settings) as form:
            text = form.get("labels")
            format = next((each for each in get_args(Format) if each == form.get("format")), None)
            if format is None:
                raise HTTPException(422, f"format: must be one of {', '.join(get_args(Format))}.")
            if not isinstance(text, str):
                raise HTTPException(422, "labels: rows of /v1/detect are missing.")
            files = await files_of(form, settings)
        with ExitStack() as opened:
            folder = opened.enter_context(_temporary_folder())
            async with turns:
                rows = await read_rows(text)
                file, lost = await _pack(folder, format, rows, files, classes)
            kept = opened.pop_all()  # until the file is sent
        return FileResponse(
            file,
            filename=f"labels-{format}.zip",
            headers={"Frcnn-Notes": quote(" ".join(lost))},
            background=BackgroundTask(kept.close),
        )


def _temporary_folder() -> tempfile.TemporaryDirectory:
    # Its thread may be writing still when a request is given up.
    return tempfile.TemporaryDirectory(prefix="frcnn-labels-", ignore_cleanup_errors=True)


async def _pack(
    folder: str,
    format: Format,
    rows: Sequence[LabelledPicture],
    files: Sequence[Given],
    classes: tuple[str, ...],
) -> tuple[Path, tuple[str, ...]]:
    try:
        return await run_in_threadpool(pack_labels, Path(folder), format, rows, files, classes)
    except UserError as error:
        # Where the server kept the files is nothing to a client.
        place = re.escape(folder) + r"(/given/\d+/)?"
        raise HTTPException(422, re.sub(place, "", str(error))) from None


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": sentence(error.errors())}, 422)

    @app.exception_handler(UserError)
    async def failed(_: Request, error: UserError) -> JSONResponse:
        LOGGER.error("%s", error)
        return JSONResponse({"detail": str(error)}, 500)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:  # the guard logs it
        return JSONResponse({"detail": "The server has failed. Its log says how."}, 500)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

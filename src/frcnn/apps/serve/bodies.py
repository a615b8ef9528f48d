"""What requests hold and answers give, as types that are checked and documented."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from frcnn.apps.serve.settings import Settings

FILES = "images"  # the field of a form that holds pictures
_LONGEST_NAME = 500
# Values in JSON: each takes hundreds of bytes once it is read, however few it has there.
_MOST_IN_PICTURES = 100_000
_MOST_IN_LABELS = 1_000_000

Name = Annotated[str, Field(max_length=_LONGEST_NAME, description="What the answer calls it.")]
# Pixels: more are a mistake, and would not fit the numbers that boxes are kept in.
Real = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Body = TypeVar("Body")


class Given(NamedTuple):
    """A picture as it came: its name and its file's bytes."""

    name: str
    data: bytes


class EncodedPicture(BaseModel):
    """A picture in JSON."""

    image: Name = "picture"
    data: Annotated[str, Field(description="The bytes of a picture file, in base64.")]


class EncodedPictures(BaseModel):
    """The pictures of a request in JSON."""

    images: Annotated[list[EncodedPicture], FailFast()]


class Found(BaseModel):
    """One detection: box (x1, y1, x2, y2) in pixels of the picture, score, class."""

    box: tuple[Real, Real, Real, Real]
    score: float
    label: Annotated[int, Field(ge=0)]
    name: str


class Row(BaseModel):
    """What was found in one picture, as `frcnn predict --json` writes it."""

    image: str
    detections: list[Found]


class LabelledObject(BaseModel):
    """One object to write: a detection, or a box that somebody drew."""

    box: tuple[Real, Real, Real, Real]
    label: Annotated[int, Field(ge=0)]


class LabelledPicture(BaseModel):
    """One picture to write labels of: a row of an answer, and its size where no file is sent."""

    image: Name
    detections: Annotated[list[LabelledObject], FailFast(), Field(max_length=10_000)]
    width: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    height: Annotated[int | None, Field(ge=1, le=1_000_000)] = None


ENCODED = TypeAdapter(EncodedPictures)
LABELLED = TypeAdapter(
    Annotated[list[LabelledPicture], FailFast(), Field(min_length=1, max_length=10_000)]
)


class Failure(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str


def form_schema(schema: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """A multipart form as OpenAPI describes it."""
    return {"schema": {"type": "object", "properties": schema, "required": list(required)}}


FILES_SCHEMA = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "Picture files: JPEG, PNG, BMP, TIFF or WebP.",
}
Format = Literal["voc", "yolo", "coco", "csv"]


async def read_pictures(request: Request, settings: Settings) -> list[Given]:
    """The pictures of a request, in a multipart form or in JSON.

    Raises:
        HTTPException: there are none, too many, or the body is neither.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        text = await request.body()
        body = await run_in_threadpool(
            parsed, ENCODED, text, _MOST_IN_PICTURES, too_many_pictures(settings)
        )
        check_count(len(body.images), settings)
        given = await run_in_threadpool(lambda: [_decoded(each) for each in body.images])
    elif kind == "multipart/form-data":
        async with open_form(request, settings) as form:
            given = await files_of(form, settings)
    else:
        raise HTTPException(
            415, f"Send pictures as multipart/form-data or application/json, not {kind[:80]!r}."
        )
    if not given:
        raise HTTPException(422, f"There are no pictures in the request: send some as {FILES!r}.")
    check_count(len(given), settings)
    return given


def check_count(count: int, settings: Settings) -> None:
    """Refuse a request of too many pictures."""
    if count > settings.pictures:
        raise HTTPException(422, too_many_pictures(settings))


def too_many_pictures(settings: Settings) -> str:
    """The sentence for a request of too many pictures."""
    return f"A request may have {settings.pictures} pictures at most."


async def read_rows(text: str) -> list[LabelledPicture]:
    """The rows of a form that asks for labels.

    Raises:
        HTTPException: they are malformed, too many, or something else.
    """
    problem = f"labels: there are more than {_MOST_IN_LABELS} values. Send fewer rows at once."
    return await run_in_threadpool(parsed, LABELLED, text.encode(), _MOST_IN_LABELS, problem)


def open_form(request: Request, settings: Settings) -> AbstractAsyncContextManager[FormData]:
    """A multipart form; fields may be as long as requests, files go to the disk if they are long.

    Raises:
        HTTPException: it is malformed, or in other letters than UTF-8.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in ("utf-8", "utf8"):  # some of Python's take hours
        raise HTTPException(415, f"Send forms in UTF-8, not in {charset[:80]!r}.")
    # One file more than may be is read, so that the answer can say what is wrong.
    most = settings.pictures + 1
    return request.form(max_files=most, max_fields=10, max_part_size=settings.body)


async def files_of(form: FormData, settings: Settings) -> list[Given]:
    """The pictures of a form."""
    files = [each for each in form.getlist(FILES) if isinstance(each, UploadFile)]
    check_count(len(files), settings)
    return [
        Given((file.filename or "picture")[:_LONGEST_NAME], await file.read()) for file in files
    ]


def parsed(kind: TypeAdapter[Body], text: bytes, most: int, too_many: str) -> Body:
    """JSON as one of the types above; it takes a while.

    Args:
        kind: the type.
        text: of the JSON.
        most: values that it may have.
        too_many: the sentence for one that has more.

    Raises:
        HTTPException: it is malformed, too much, or something else.
    """
    # No value comes without one of these before it, so they are counted before any is made.
    if sum(map(text.count, (b",", b"[", b"{"))) > most:
        raise HTTPException(422, too_many)
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise HTTPException(422, sentence(problems)) from None


def sentence(errors: Sequence[Any]) -> str:
    """The first of what is wrong with a request, with its place, in a sentence."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"])[:200]
    more = f" ({len(errors) - 1} more like it)" if len(errors) > 1 else ""
    return f"{place or 'The request'}: {first['msg'][:500]}{more}."


def _decoded(picture: EncodedPicture) -> Given:
    try:
        return Given(picture.image, base64.b64decode(picture.data, validate=True))
    except (binascii.Error, ValueError):
        raise HTTPException(422, f"{picture.image}: its data are not base64.") from None

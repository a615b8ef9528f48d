"""Requests that are small, or many, and would be far more work than they look."""

import socket
import time

import pytest

from frcnn.apps.serve import protocol
from serving import Sizes, form, picture, serving

SOUND = [("a.png", picture())]
JSON = {"Content-Type": "application/json"}
TOO_MANY = "A request may have 3 pictures at most."


@pytest.fixture(scope="module")
def server():
    with serving(Sizes(), pictures=3) as client:
        yield client


@pytest.fixture(autouse=True)
def quick(server):
    """Nothing here takes long, and then the server answers as before."""
    started = time.monotonic()
    yield
    assert server.send("/v1/detect", SOUND).status == 200
    assert time.monotonic() - started < 8


def many(value, count):
    return "[" + ",".join([value] * count) + "]"


@pytest.mark.parametrize(
    ("value", "count", "message"),
    [
        ("0", 1_000_000, TOO_MANY),
        ("[]", 1_000_000, TOO_MANY),
        ('{"data":""}', 1_000_000, TOO_MANY),
        ('{"data":""}', 40_000, TOO_MANY),
        ("0", 90_000, "images.0: Input should be an object."),
    ],
)
def test_values_in_place_of_pictures(server, value, count, message):
    body = f'{{"images":{many(value, count)}}}'
    answer = server.ask("POST", "/v1/detect", body, JSON)
    assert (answer.status, answer.detail()) == (422, message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            many(f'{{"image":"a","detections":{many("0", 9_000)}}}', 100),
            "0.detections.0: Input should be an object.",
        ),
        (many("0", 900_000), "0: Input should be an object."),
        (
            many(f'{{"image":"a","detections":{many("{}", 10_000)}}}', 60),
            "labels: there are more than 1000000 values. Send fewer rows at once.",
        ),
    ],
)
def test_values_in_place_of_rows(server, rows, message):
    answer = server.send("/v1/labels", [], [("format", "voc"), ("labels", rows)])
    assert (answer.status, answer.detail()) == (422, message)


@pytest.mark.parametrize(
    ("charset", "status"), [("punycode", 415), ("utf-7", 415), ("UTF-8", 200), ('"utf8"', 200)]
)
def test_forms_in_other_letters_than_utf_8(server, charset, status):
    """Python reads some of them in a time that grows with the square of the length."""
    body, kind = form(SOUND)
    kinds = {"Content-Type": f"{kind}; charset={charset}"}
    answer = server.ask("POST", "/v1/detect", body, kinds)
    assert answer.status == status
    assert status == 200 or answer.detail() == f"Send forms in UTF-8, not in {charset!r}."


def test_more_connections_than_may_be(monkeypatch):
    with serving(Sizes()) as client:
        monkeypatch.setattr(protocol, "CONNECTIONS", 2)
        held = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(2)]
        time.sleep(0.2)
        answer = client.ask("GET", "/health")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert answer.headers["retry-after"] == "1"
        assert answer.detail() == "There are too many connections: ask again later."
        held.pop().close()
        time.sleep(0.2)
        assert client.ask("GET", "/health").status == 200
        held.pop().close()

"""What the server says to those who ask as they should not, and to those who mean harm."""

import json
import socket
import threading
import time

import pytest

from frcnn.apps.serve import protocol
from frcnn.apps.serve.settings import Settings
from frcnn.errors import UserError
from hostile import png
from serving import BOUNDARY, Sizes, form, picture, read_all, serving

TOKEN = "correct horse"
SOUND = [("a.png", picture())]


@pytest.fixture(scope="module")
def server():
    settings = {"body": 1 << 20, "patience": 1.5, "pictures": 3}
    with serving(Sizes(), **settings) as client:
        yield client


@pytest.fixture(autouse=True)
def still_well(server):
    """After each insult the server answers as before."""
    yield
    assert server.send("/v1/detect", SOUND).status == 200


def head(path="/v1/detect", method="POST", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


KIND = f"multipart/form-data; boundary={BOUNDARY}"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"nonsense", "is not a JPEG, PNG, BMP, TIFF or WebP picture"),
        (picture()[:60], "truncated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a JPEG"),
        (png(30_000, 30_000)[:50] + b"IEND", "more than the limit"),
    ],
)
def test_what_is_no_picture(server, data, problem):
    answer = server.send("/v1/detect", [("ok.png", picture()), ("bad.png", data)])
    assert answer.status == 422
    assert answer.detail().startswith("bad.png: ") and problem in answer.detail()


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{", "application/json", 422, "Invalid JSON"),
        (b"[" * 100_000, "application/json", 422, "Invalid JSON"),
        (b'{"images": 5}', "application/json", 422, "images: Input should be a valid array"),
        (b'{"images": []}', "application/json", 422, "no pictures"),
        (b'{"images": [{"data": "http://127.0.0.1/a.png"}]}', "application/json", 422, "base64"),
        (b'{"images": [{"url": "http://127.0.0.1/a.png"}]}', "application/json", 422, "data: Fi"),
        (
            b'{"images": [{"data": "AAAA"}]}',
            "application/json; charset=utf-8",
            422,
            "is not a JPEG",
        ),
        (b"\xff\xfe", "application/json", 422, "Invalid"),
        (b"nonsense", KIND, 400, "Invalid multipart data"),
        (b"nonsense", "multipart/form-data", 400, "boundary"),
        (b"", KIND, 422, "no pictures"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "multipart/form-data"),
        (b"a", "text/plain", 415, "application/json"),
    ],
)
def test_malformed_requests(server, body, kind, status, message):
    answer = server.ask("POST", "/v1/detect", body, {"Content-Type": kind})
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert message in answer.detail()


def test_too_many_pictures(server):
    assert "3 pictures at most" in server.send("/v1/detect", SOUND * 4).detail()
    rows = json.dumps({"images": [{"data": "AAAA"}] * 400})
    answer = server.ask("POST", "/v1/detect", rows, JSON)
    assert answer.status == 422 and "3 pictures at most" in answer.detail()
    assert server.send("/v1/detect", SOUND * 50).status == 400


def test_other_paths_and_methods(server):
    assert server.ask("GET", "/v1/detect").status == 405
    for path in ("/nothing", "/../app.py", "/%2e%2e/app.py", "/static/page.html", "//etc/passwd"):
        assert server.ask("GET", path).status == 404
    assert server.ask("DELETE", "/").status == 405


def test_a_body_that_is_stated_to_be_too_large_is_not_waited_for(server):
    started = time.monotonic()
    raw = server.raw(head(Content_Type=KIND, Content_Length=1 << 40))
    assert status_of(raw) == 413 and b"limit of 1 MiB" in raw
    assert time.monotonic() - started < 1.4  # no longer than it lingers


def test_a_body_that_is_too_large_is_refused_as_it_comes(server):
    part = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    raw = server.raw(
        head(Content_Type="application/json", Transfer_Encoding="chunked"), *[part] * 40
    )
    assert status_of(raw) == 413 and b"limit of 1 MiB" in raw
    answer = server.send("/v1/detect", [("a.png", bytes(2 << 20))])  # whose sender gets to read it
    assert answer.status == 413 and answer.headers["connection"] == "close"


def test_all_bodies_together_are_bounded():
    with serving(Sizes(), body=1 << 20, bodies=1 << 21, patience=3) as client:
        slow = []
        for _ in range(4):  # who send almost all, and wait
            connection = socket.create_connection(("127.0.0.1", client.port))
            connection.sendall(head(Content_Type="application/json", Content_Length=(1 << 20) - 1))
            connection.sendall(bytes((1 << 20) - 2))
            slow.append(connection)
        time.sleep(0.5)
        answers = [connection.recv(100) for connection in slow[2:3]]
        for connection in slow:
            connection.close()
        assert b" 503 " in answers[0]
        time.sleep(0.3)
        assert client.send("/v1/detect", SOUND).status == 200


@pytest.mark.parametrize("kind", [KIND, "application/json"])
def test_a_body_that_comes_too_slowly(server, kind):
    started = time.monotonic()
    parts = [bytes([each]) for each in form(SOUND)[0][:40]]
    raw = server.raw(head(Content_Type=kind, Content_Length=1000), *parts, pause=0.1, timeout=5)
    assert status_of(raw) == 408 and b"took longer than 1.5 s" in raw
    assert b"less than 128 KiB a second" in raw
    assert time.monotonic() - started < 5


def test_a_large_body_has_more_time():
    body, kind = form([("a.png", picture(200, 200))])
    parts = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    assert len(parts) > 10
    start = head(Content_Type=kind, Content_Length=len(body), Connection="close")
    with serving(Sizes(), patience=0.5, pace=40_000) as client:
        assert status_of(client.raw(start, *parts, pause=0.1)) == 200
        assert status_of(client.raw(start, *parts, pause=0.6)) == 408


def test_a_client_that_leaves_in_the_middle(server, capfd):
    for sent in (b"", b"--" + BOUNDARY.encode()):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head(Content_Type=KIND, Content_Length=1000) + sent)
            time.sleep(0.2)
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def test_slow_clients_do_not_hold_others_up(server):
    """Two hundred that send a byte now and then."""
    slow = []
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"POST /v1/detect HTTP/1.1\r\nHo")
        slow.append(connection)
    started = time.monotonic()
    assert server.send("/v1/detect", SOUND).status == 200
    assert time.monotonic() - started < 1
    for connection in slow:
        connection.close()


def test_a_head_that_comes_too_slowly(server, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    started = time.monotonic()
    assert server.raw(*[b"G"] * 30, pause=0.1, timeout=5) == b""
    first = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert server.raw(first, *[b"G"] * 30, pause=0.1, timeout=5).count(b"HTTP/1.1 200") == 1
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        assert connection.recv(1) == b""  # says nothing at all
    assert time.monotonic() - started < 12


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\1\2\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000,
    ],
)
def test_what_is_no_http(server, raw):
    answer = server.raw(raw, timeout=5)
    assert status_of(answer) == 400
    detail = json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
    assert detail == "Invalid HTTP request received."


def test_tokens():
    guess = {"Authorization": "Bearer wrong"}
    with serving(Sizes(), token=TOKEN, body=1 << 20) as client:
        for path in ("/", "/script.js", "/style.css", "/health", "/openapi.json"):
            assert client.ask("GET", path).status == 200
        for path in ("/v1/model", "/metrics", "/docs", "/v1/nothing"):
            answer = client.ask("GET", path)
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert "Authorization: Bearer TOKEN" in answer.detail()
        for wrong in (guess, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
            assert client.send("/v1/detect", SOUND, **wrong).status == 401
        assert client.send("/v1/detect", SOUND, Authorization=f"Bearer {TOKEN}x").status == 401
        assert client.send("/v1/labels", SOUND).status == 401
        # Before anything of the body is read.
        assert status_of(client.raw(head(Content_Length=1 << 40, Content_Type=KIND))) == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.send("/v1/detect", SOUND, **right).status == 200
        assert client.ask("GET", "/metrics", headers=right).status == 200


def test_a_token_of_other_letters():
    with serving(Sizes(), token="Grüße") as client:
        sent = {"Authorization": "Bearer Grüße".encode()}
        assert client.ask("GET", "/v1/model", headers=sent).status == 200
        assert client.ask("GET", "/v1/model", headers={"Authorization": "Bearer Gr"}).status == 401


def test_more_requests_than_the_rate_allows():
    with serving(Sizes(), rate=3) as client:
        answers = [client.ask("GET", "/health") for _ in range(12)]
        assert [each.status for each in answers[:6]] == [200] * 6
        late = [each for each in answers if each.status == 429]
        assert len(late) >= 4 and late[0].headers["retry-after"] == "1"
        body, kind = form(SOUND)
        assert client.ask("POST", "/v1/detect", body, {"Content-Type": kind}).status == 429
        spoofed = {"X-Forwarded-For": "1.2.3.4"}
        assert client.ask("GET", "/health", headers=spoofed).status == 429
        time.sleep(1)
        assert client.ask("GET", "/health").status == 200


def test_a_client_that_takes_no_answer_is_left(monkeypatch):
    """It asks for a large answer, and never reads."""
    monkeypatch.setattr(protocol, "TAKE_SECONDS", 0.5)
    rows = json.dumps([{"image": "a.png", "detections": []}])
    large = picture(1700, 1700)  # noise: its zip is no smaller
    body, kind = form([("a.png", large)], [("format", "voc"), ("labels", rows)])
    with serving(Sizes()) as client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(head("/v1/labels", Content_Type=kind, Content_Length=len(body)) + body)
        connection.settimeout(10)
        assert connection.recv(9) == b"HTTP/1.1 "
        time.sleep(1.5)
        assert len(read_all(connection)) < len(large) - (1 << 20)  # it was cut off
        connection.close()


def test_no_answer_may_be_used_by_other_pages(server):
    for path in ("/", "/script.js", "/v1/model", "/nothing"):
        headers = server.ask("GET", path, headers={"Origin": "http://evil.example"}).headers
        assert "access-control-allow-origin" not in headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_names_come_back_as_text(server):
    name = "<img src=x onerror=alert(1)>.png"
    answer = server.send("/v1/detect", [(name, picture())])
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()[0]["image"] == name
    assert threading.active_count() < 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": ""}, "The token is empty"),
        ({"token": " \n"}, "The token is empty"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"rate": -1}, "rate must be at least 0"),
        ({"rate": float("nan")}, "rate must be at least 0"),
        ({"patience": 0}, "patience must be at least 0.1"),
        ({"pace": 0}, "pace must be at least 1"),
        ({"grace": -1}, "grace must be at least 0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        Settings(**settings)


def test_no_request_may_have_more_pictures_than_may_wait():
    with serving(Sizes(), queue=2) as client:
        answer = client.send("/v1/detect", SOUND * 3)
        assert answer.status == 422 and "may have 2 pictures at most" in answer.detail()
        assert client.send("/v1/detect", SOUND * 2).status == 200


def test_white_space_round_a_token_is_not_part_of_it():
    with serving(Sizes(), token=f" {TOKEN}\r\n") as client:
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.send("/v1/detect", SOUND, **right).status == 200

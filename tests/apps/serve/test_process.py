"""The server as a process of its own: how it starts, and how it ends."""

import http.client
import signal
import socket
import sys
import threading
import time

import pytest

from exported import write_onnx
from frcnn.cli import main
from serving import Client, picture, started


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish(model, ending):
    with started(model) as (process, port):
        answers = []

        def ask():
            answers.append(Client(port).send("/v1/detect?score=0", [("a.png", picture())]))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        idle = http.client.HTTPConnection("127.0.0.1", port)
        idle.request("GET", "/health")
        assert idle.getresponse().read() and idle.sock
        time.sleep(0.4)
        assert not answers
        process.send_signal(ending)
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200] * 3
        assert all(len(answer.json()[0]["detections"]) == 2 for answer in answers)
        assert process.wait(10) == 0
        assert process.stdout.read() == "Keras: False\n"
        assert process.stderr.read() == ""
        idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_token_of_the_environment(model):
    with started(model, FRCNN_TOKEN="secret") as (_, port):
        client = Client(port)
        assert client.ask("GET", "/v1/model").status == 401
        right = {"Authorization": "Bearer secret"}
        assert client.ask("GET", "/v1/model", headers=right).status == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "{taken}"], "cannot be listened on: Address already in use. Choose another"),
        (["--host", "192.0.2.1"], "192.0.2.1:8000 cannot be listened on"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--token", " "], "The token is empty"),
        (["--batch", "0"], "batch must be at least 1"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(model, arguments, message, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [each.format(taken=taken.getsockname()[1]) for each in arguments]
        with pytest.raises(SystemExit) as caught:
            main(["serve", str(model), *given])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_library_is_a_sentence(model, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("frcnn.apps.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit):
        main(["serve", str(model)])
    assert "pip install 'frcnn[serve]'" in capsys.readouterr().err

"""What clients get whose server ends meanwhile."""

import signal
import socket
import threading
import time

import pytest

from exported import write_onnx
from serving import Client, picture, read_all, started

SOUND = ("a.png", picture())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


def asking(port, answers, pictures):
    """A thread that asks, started."""

    def ask():
        answers.append(Client(port).send("/v1/detect", [SOUND] * pictures, timeout=60))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def seconds_to_end(process):
    """From a signal to the end, which has to be a good one."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    return time.monotonic() - begun


def assert_told_to_ask_again(answer):
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.detail() == "The server ends: ask again later."


def test_what_would_take_too_long_is_told_so(model):
    with started(model, "--batch", "1", "--grace", "2.5") as (process, port):
        answers = []
        threads = [asking(port, answers, pictures) for pictures in (1, 20, 20)]
        time.sleep(0.7)
        assert seconds_to_end(process) < 6
        for thread in threads:
            thread.join()
    statuses = sorted(answer.status for answer in answers)
    assert statuses in ([200, 503, 503], [503, 503, 503])
    for answer in answers:
        if answer.status == 503:
            assert_told_to_ask_again(answer)


def test_what_cannot_be_ended_is_told_so(model):
    """A batch that takes longer than there is time, and a request that is still arriving."""
    with started(model, "--grace", "0.5", seconds=4) as (process, port):
        answers = []
        thread = asking(port, answers, 1)
        arriving = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        arriving.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.7)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert time.monotonic() - begun < 2
        assert_told_to_ask_again(answers[0])
        answer = read_all(arriving)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"The server ends" in answer
        arriving.close()
        assert process.wait(10) == 0 and process.stderr.read() == ""


def test_who_takes_no_answer_does_not_hold_the_end_up(model):
    with started(model, "--grace", "0.5") as (process, port):
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(b"GET /script.js HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        time.sleep(0.5)
        assert seconds_to_end(process) < 6
        stuck.close()


def test_two_signals_end_at_once(model):
    with started(model, seconds=3) as (process, port):
        answers = []
        thread = asking(port, answers, 1)
        time.sleep(0.7)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        thread.join()
        assert process.wait(20) == 0 and process.stderr.read() == ""
        assert_told_to_ask_again(answers[0])

import hashlib
import re
import shutil
import socket
import threading
from io import BytesIO
from pathlib import Path

import pytest

from frcnn.errors import UserError
from frcnn.zoo import download
from frcnn.zoo.download import cache_folder, fetch
from local_server import sends, serving

CONTENT = bytes(range(256)) * 9000  # more than two chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def dies(handler):
    """Breaks the connection midway, rudely."""
    sends(CONTENT[:100_000], len(CONTENT))(handler)
    handler.wfile.flush()
    linger_off = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
    handler.connection.close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        yield server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_is_fetched_once_and_kept_whole(server, tmp_path):
    server.answers["/models/weights.h5"] = sends(CONTENT)
    folder = tmp_path / "deep" / "cache"
    address = server.address("/models/weights.h5")
    path = fetch(address, digest=DIGEST, folder=folder)
    assert path == folder / "weights.h5" and path.read_bytes() == CONTENT
    assert fetch(address, digest=DIGEST[:8].upper(), folder=folder) == path
    assert fetch(address, folder=folder) == path
    assert len(server.asked) == 1 and names(folder) == ["weights.h5"]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FRCNN_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "frcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "frcnn"


def test_a_name_and_the_cache_folder_are_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    server.answers["/resolve?file=3"] = sends(b"small", -1)  # a length that nobody told
    path = fetch(server.address("/resolve?file=3"), name="small.bin")
    assert path == tmp_path / "small.bin" and path.read_bytes() == b"small"


def test_md5_is_taken_where_a_publisher_gives_no_other(server, tmp_path):
    server.answers["/a"] = sends(CONTENT)
    digest = "md5:" + hashlib.md5(CONTENT).hexdigest()
    assert fetch(server.address("/a"), digest=digest, folder=tmp_path).is_file()
    with pytest.raises(UserError, match="its md5 checksum begins with"):
        fetch(server.address("/a"), "b", "md5:" + 32 * "0", tmp_path)


def test_a_wrong_checksum_names_both_and_leaves_nothing(server, tmp_path):
    server.answers["/a.pth"] = sends(CONTENT)
    with pytest.raises(UserError) as error:
        fetch(server.address("/a.pth"), digest="0123456789", folder=tmp_path)
    assert all(part in str(error.value) for part in ("0123456789", DIGEST[:10], "/a.pth"))
    assert names(tmp_path) == []


def broken_answers():
    small = CONTENT[:50_000]
    return {
        "truncated": (sends(small, len(CONTENT)), "ended after 50,000 of 2,304,000 bytes"),
        "dying midway": (dies, "reset|ended after"),
        "gone": (sends(b"", status=410), "the server answered 410 Gone"),
        "larger than the disk": (sends(b"", 1 << 60), "the disk has room for"),
        "silent": (lambda handler: None, "closed connection"),
        "no HTTP": (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "nonsense"),
        "a loop": (sends(b"", status=302, Location="/a"), "infinite loop"),
    }


@pytest.mark.parametrize("kind", broken_answers())
def test_what_breaks_off_is_one_sentence_and_leaves_nothing(server, tmp_path, kind):
    server.answers["/a"], message = broken_answers()[kind]
    address = server.address("/a")
    with pytest.raises(UserError, match=message) as error:
        fetch(address, digest=DIGEST, folder=tmp_path)
    assert str(error.value).startswith(f"{address} could not be downloaded: ")
    assert str(error.value).endswith(f"put it at {tmp_path / 'a'}.")
    assert "\n" not in str(error.value) and names(tmp_path) == []


def test_an_unreachable_server_names_the_place_for_a_file_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pth"
        with pytest.raises(UserError, match="refused.*put it at .*w.pth"):
            fetch(address, digest=DIGEST, folder=tmp_path)
        (tmp_path / "w.pth").write_bytes(CONTENT)
        assert fetch(address, digest=DIGEST, folder=tmp_path).read_bytes() == CONTENT


def test_a_server_that_says_nothing_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    done = threading.Event()
    server.answers["/a"] = lambda handler: done.wait(10)
    with pytest.raises(UserError, match="no answer within"):
        fetch(server.address("/a"), folder=tmp_path)
    done.set()


def test_a_damaged_file_in_the_cache_is_replaced_or_told_of(server, tmp_path):
    (tmp_path / "a").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(UserError, match=rf"404 Not Found.*in place of the file there.*{found}"):
        fetch(server.address("/a"), digest=DIGEST[:8], folder=tmp_path)
    assert (tmp_path / "a").read_bytes() == b"something else"
    server.answers["/a"] = sends(CONTENT)
    assert fetch(server.address("/a"), digest=DIGEST[:8], folder=tmp_path).read_bytes() == CONTENT


def test_redirects_are_followed_but_never_to_what_is_not_encrypted(server, tmp_path):
    server.answers["/new"] = sends(CONTENT)
    for target in ("/new", server.address("/new")):
        server.answers["/old"] = sends(b"", status=302, Location=target)
        path = fetch(server.address("/old"), digest=DIGEST, folder=tmp_path)
        assert path.name == "old" and path.read_bytes() == CONTENT
        path.unlink()
    for target in ("http://example.com/a", "ftp://example.com/a", "file:///etc/passwd"):
        server.answers["/old"] = sends(b"", status=302, Location=target)
        with pytest.raises(UserError, match=re.escape(target)):
            fetch(server.address("/old"), folder=tmp_path)
    assert names(tmp_path) == []


def test_an_encrypted_server_may_not_redirect_to_this_machine():
    redirects = download._Redirects()
    request = download.urllib.request.Request("https://example.com/a")
    with pytest.raises(OSError, match="not https"):
        redirects.redirect_request(request, BytesIO(), 302, "", {}, "http://localhost:8000/a")
    assert redirects.redirect_request(request, BytesIO(), 302, "", {}, "https://example.org/a")


@pytest.mark.parametrize("address", ["http://example.com/a", "file:///etc/passwd", "a.pth", ""])
def test_only_https_is_fetched(tmp_path, address):
    with pytest.raises(ValueError, match="begin with https"):
        fetch(address, name="a", folder=tmp_path)


@pytest.mark.parametrize("path", ["/", "/..", "/%2e%2e", "/a%2fb", "/..%5cb"])
def test_an_address_cannot_name_another_folder(tmp_path, path):
    with pytest.raises(ValueError, match="file name"):
        fetch(f"https://example.com{path}", folder=tmp_path)


@pytest.mark.parametrize("digest", ["1234567", "zzzzzzzz", "md5:1234", "sha1:12345678", 65 * "0"])
def test_a_malformed_digest_is_refused(tmp_path, digest):
    with pytest.raises(ValueError, match="digits"):
        fetch("https://example.com/a", digest=digest, folder=tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be downloaded: "):
        fetch(server.address("/a"), folder=tmp_path / "file")


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    server.answers["/a"] = sends(CONTENT)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.address("/a"), folder=tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_is_one_sentence(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    server.answers["/a"] = sends(CONTENT)
    with pytest.raises(UserError, match="it has 2,304,000 bytes, and the disk has room for 1,000"):
        fetch(server.address("/a"), folder=tmp_path)


def test_a_body_without_end_is_ended(server, tmp_path, monkeypatch):
    server.answers["/f"] = sends(CONTENT, length=-1)
    monkeypatch.setattr(download, "MOST_BYTES", len(CONTENT) - 1)
    with pytest.raises(UserError, match="more than 2,303,999 bytes"):
        fetch(server.address("/f"), folder=tmp_path)
    assert names(tmp_path) == []


def test_two_at_once_do_not_disturb_each_other(server, tmp_path):
    both_in = threading.Barrier(2)

    def in_step(handler):
        both_in.wait(5)  # neither is done before the other has begun
        sends(CONTENT)(handler)

    server.answers["/a"] = in_step
    found = []

    def run():
        path = fetch(server.address("/a"), digest=DIGEST, folder=tmp_path)
        found.append(path.read_bytes())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT, CONTENT]
    assert len(server.asked) == 2 and names(tmp_path) == ["a"]


def test_the_name_and_the_bytes_are_shown(server, tmp_path, capsys):
    server.answers["/weights.pth"] = sends(CONTENT)
    fetch(server.address("/weights.pth"), folder=tmp_path)
    captured = capsys.readouterr()
    assert "weights.pth" in captured.err and "2.3" in captured.err and "MB" in captured.err
    assert not captured.out

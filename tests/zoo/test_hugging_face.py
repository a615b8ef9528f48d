import json
import socket
import subprocess
import sys

import pytest
from huggingface_hub import constants, hf_api

from frcnn.errors import UserError
from frcnn.zoo.hugging_face import HubReference, fetch_from_hub
from local_server import sends, serving

COMMIT = 40 * "a"


@pytest.fixture
def connect(monkeypatch, tmp_path):
    """Makes the library take an address for the hub's."""

    def to(home: str):
        template = home + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", home)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hf_api.api, "endpoint", home)

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the library waits and tries again
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return to


@pytest.fixture
def server(connect):
    """A hub on this machine."""
    with serving() as server:
        connect(server.address(""))
        yield server


def publish(server, files: dict[str, bytes], revision="main", repository="jane/birds"):
    """Answer as the hub does for a repository with these files."""
    for name, content in files.items():
        headers = {"ETag": f'"{name.replace("/", "-")}-{revision}"', "X_Repo_Commit": COMMIT}
        server.answers[f"/{repository}/resolve/{revision}/{name}"] = sends(content, **headers)
    missing = sends(b"", status=404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
    server.answers.setdefault(f"/{repository}/resolve/{revision}/model.keras", missing)
    server.answers[f"/{repository}/resolve/{revision}/absent.keras"] = missing
    tree = [{"type": "file", "path": name, "size": 1, "oid": COMMIT} for name in files]
    for query in ("?recursive=true&expand=false", "?recursive=True&expand=False"):
        server.answers[f"/api/models/{repository}/tree/{revision}{query}"] = sends(
            json.dumps(tree).encode(), Content_Type="application/json"
        )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://jane/birds", ("jane/birds", None, None)),
        ("hf://jane/birds/", ("jane/birds", None, None)),
        ("hf://jane/birds@v1.0", ("jane/birds", "v1.0", None)),
        ("hf://jane/b.i-r_d/best.keras", ("jane/b.i-r_d", None, "best.keras")),
        ("hf://jane/birds@refs%2Fpr%2F1/a/b.keras", ("jane/birds", "refs/pr/1", "a/b.keras")),
    ],
)
def test_references_are_taken_apart(text, parts):
    assert HubReference.parse(text) == HubReference(*parts)


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://jane", "hf:///birds", "jane/birds", "hf://jane/birds/x.h5", "hf://a/b@"]
    + ["https://huggingface.co/jane/birds", "hf://a/b/.keras/c", "hf://a/b\n"],
)
def test_what_is_no_reference_is_refused_with_the_form(text):
    with pytest.raises(UserError, match="write hf://OWNER/NAME"):
        HubReference.parse(text)


def test_model_keras_is_taken_whatever_else_there_is(server):
    publish(server, {"model.keras": b"the model", "best.keras": b"another", "README.md": b""})
    path = fetch_from_hub("hf://jane/birds")
    assert path.name == "model.keras" and path.read_bytes() == b"the model"
    server.answers.clear()  # now it cannot be had again
    assert fetch_from_hub("hf://jane/birds") == path


def test_the_only_model_is_taken_and_of_several_one_must_be_named(server):
    publish(server, {"runs/best.keras": b"best", "README.md": b""})
    assert fetch_from_hub("hf://jane/birds").read_bytes() == b"best"
    publish(server, {"a.keras": b"A", "b.keras": b"B"})
    with pytest.raises(UserError, match="several models, a.keras, b.keras; name one as hf://jane"):
        fetch_from_hub("hf://jane/birds")
    assert fetch_from_hub("hf://jane/birds/b.keras").read_bytes() == b"B"


def test_a_revision_is_taken(server):
    publish(server, {"model.keras": b"new"})
    publish(server, {"model.keras": b"old"}, revision="v1")
    assert fetch_from_hub("hf://jane/birds@v1").read_bytes() == b"old"


def test_a_repository_without_a_model_is_told_of(server):
    publish(server, {"config.json": b"{}", "model.weights.h5": b""})
    with pytest.raises(UserError, match="hf://jane/birds holds no .keras file"):
        fetch_from_hub("hf://jane/birds")
    with pytest.raises(UserError, match="the repository has no file absent.keras"):
        fetch_from_hub("hf://jane/birds/absent.keras")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", "no such repository, or it is private; if it is yours, run hf auth"),
        (403, "GatedRepo", "gives access on request"),
        (404, "RevisionNotFound", "the repository has no revision v9"),
        (500, "", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(server, status, code, message):
    server.answers["/jane/birds/resolve/v9/model.keras"] = sends(status=status, X_Error_Code=code)
    with pytest.raises(UserError, match=message) as error:
        fetch_from_hub("hf://jane/birds@v9")
    assert "\n" not in str(error.value)


def test_offline_is_one_sentence(connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UserError, match="birds cannot be fetched: the hub cannot be reached"):
            fetch_from_hub("hf://jane/birds")


def test_a_list_that_fails_is_one_sentence(server):
    publish(server, {"a.keras": b""})
    for path in list(server.answers):
        if path.startswith("/api"):
            server.answers[path] = sends(b"not json", Content_Type="application/json")
    with pytest.raises(UserError, match="hf://jane/birds cannot be fetched: ") as error:
        fetch_from_hub("hf://jane/birds")
    assert "\n" not in str(error.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'hf://a/b needs another package: pip install "frcnn\[hub'):
        fetch_from_hub("hf://a/b")


def test_the_library_is_imported_where_it_is_used():
    code = "import sys, frcnn.zoo.hugging_face; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

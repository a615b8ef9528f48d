"""The commands of docs/serve.md do what it says."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from exported import write_onnx
from frcnn.inference.load import load
from serving import picture, serving

PAGE = (Path(__file__).parents[3] / "docs" / "serve.md").read_text("utf-8")
BLOCKS = [
    re.sub(r"(?m)^ +", "", block)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    if "curl " in block
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two pictures and a model, and a server of it."""
    folder = tmp_path_factory.mktemp("docs")
    for name in "ab":
        (folder / f"{name}.jpg").write_bytes(picture(64, 96, suffix=".jpg"))
    model = write_onnx(folder / "tiny.onnx")
    with serving(load(model), token="secret") as client:
        yield folder, client.port


def run(block, place):
    folder, port = place
    asks = 'curl -sS --fail-with-body -H "Authorization: Bearer secret"'
    script = block.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("curl ", f"{asks} ")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "FRCNN_TOKEN": "secret"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_command(place):
    folder, _ = place
    assert len(BLOCKS) == 5
    shown = [run(block, place) for block in BLOCKS]
    rows = json.loads((folder / "found.json").read_text())
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg"]
    assert json.loads(shown[1]) == rows[:1]
    names = zipfile.ZipFile(folder / "labels.zip").namelist()
    assert {"Annotations/a.xml", "JPEGImages/b.jpg"} <= set(names)
    assert '"classes":["disc","square"]' in shown[3] and "frcnn_pictures_total 3.0" in shown[3]
    assert '"classes":["disc","square"]' in shown[4]

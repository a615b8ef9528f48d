"""The manual: its links lead somewhere, and its commands, programs and notebooks run.

Blocks marked ``bash`` and ``python`` are run, page by page, in a folder of their own: on a small
data set in place of the reader's, with a network small enough for a test in place of a preset's.
"""

import json
import re
import shlex
from pathlib import Path

import keras
import pytest
import yaml

from frcnn.cli import main
from frcnn.training import train as training
from tiny import tiny_network, write_voc

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What a reader's shell does before, and what takes a server, a camera or an afternoon: these have
# tests of their own.
NOT_RUN = ("pip ", "python -m venv", "export ", "frcnn demo", "frcnn serve", "curl ", "echo ")
NOT_RUN += ("frcnn predict RUN ",)
SMALL = {"--epochs": "1", "--size": "64", "--batch": "2"}
SMALL_PROGRAM = {
    "epochs=20": 'epochs=1, size=64, batch=2, weights="none"',
    "VOCdevkit/VOC2007": "DATA",
    "street.jpg": "PICTURES/000.png",
}


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text("utf-8")):
        target, _, heading = link.partition("#")
        if "://" in link or not target and not heading:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)} links to {link}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, f"{name_of(page)} links to {link}"


def test_every_page_is_in_the_menu():
    def pages(entries):
        for entry in entries:
            values = entry.values() if isinstance(entry, dict) else [entry]
            for value in values:
                yield from pages(value) if isinstance(value, list) else [value]

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(listed) == sorted(
        str(page.relative_to(ROOT / "docs")) for page in PAGES if ROOT / "docs" in page.parents
    )


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's folder: data, pictures, and presets that are quick to train."""

    def build(name, classes, frozen, rois, seed):
        keras.utils.set_random_seed(seed)
        return tiny_network(classes, seed)

    monkeypatch.setattr(training, "build_network", build)
    monkeypatch.chdir(tmp_path)
    splits = {"train": range(8), "val": range(8, 12), "test": range(8, 12)}
    write_voc(tmp_path / "DATA", 12, splits)
    (tmp_path / "PICTURES").symlink_to(tmp_path / "DATA/JPEGImages")
    return tmp_path


def words_of(line: str) -> list[str]:
    """A command for the reader's small folder."""
    words = shlex.split(line.replace("$DATA", "DATA"), comments=True)[1:]
    for option, value in SMALL.items():
        if option in words:
            words[words.index(option) + 1] = value
    if words[0] == "train" and "--resume" not in words:
        words += ["--weights", "none"]
    return words


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))], ids=name_of
)
def test_commands_and_programs_run(page, reader):
    names = {"DATA": "DATA", "PICTURE": "PICTURES/000.png"}
    if 'load("RUN")' in page.read_text("utf-8"):
        main(words_of("frcnn train DATA --epochs 1 --size 64 --batch 2 --out RUN"))
    for language, text in BLOCK.findall(page.read_text("utf-8")):
        if language == "python":
            for large, small in SMALL_PROGRAM.items():
                text = text.replace(large, small)
            exec(compile(text, name_of(page), "exec"), names)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith(NOT_RUN):
                assert line.startswith("frcnn "), f"{name_of(page)}: {line}"
                main(words_of(line))


def test_names_of_frcnn_choose_the_backend_before_keras_is_imported():
    """Where no backend is set, Keras would take TensorFlow, installed or not."""
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        code = "".join("".join(each["source"]) for each in cells if each["cell_type"] == "code")
        assert 0 < code.index("frcnn.load") < code.index("import keras")
    for page in PAGES:
        text = page.read_text("utf-8")
        if "import keras\n" in text:
            assert 0 < text.index("from frcnn import") < text.index("import keras\n"), name_of(page)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebooks_run(notebook, reader, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    main(words_of("frcnn train DATA --epochs 1 --size 64 --batch 2 --out RUN"))
    names = {}
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"] and cell["execution_count"] is None, "clear it before a commit"
        text = "".join(cell["source"]).replace('"../demo/run", "../demo/data"', '"RUN", "DATA"')
        exec(compile(text, name_of(notebook), "exec"), names)
    assert names["RUN"] == "RUN"

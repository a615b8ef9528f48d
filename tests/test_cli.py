import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import frcnn
from frcnn import cli
from frcnn.backend import PREFERENCE, choose_backend, importing_keras
from frcnn.cli import COMMANDS, main, run_safely
from frcnn.errors import UserError
from frcnn.training.config import Config
from tiny import write_voc

ROOT = Path(__file__).parents[1]
HEAVY = {"keras", "numpy", "cv2", "torch", "jax", "tensorflow", "matplotlib", "h5py"}


def run(*arguments, backend: str | None = "torch", cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom frcnn.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = run("-c", code)
        seconds.append(time.perf_counter() - began)
        assert result.stdout.rstrip().endswith("[]"), result.stdout + result.stderr
    assert min(seconds) < 0.5
    assert run("-m", "frcnn", "--help").stdout in result.stdout
    for command in ("train", "evaluate", "predict", "presets", "demo"):
        assert command in result.stdout


def test_jax_is_told_where_to_keep_what_it_compiles(tmp_path, monkeypatch):
    code = (
        "from frcnn.cli import run_safely; jax = lambda: __import__('jax').config; run_safely("
        "lambda: print(jax().jax_compilation_cache_dir, jax().jax_compilation_cache_max_size))"
    )
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    own = tmp_path / "own"
    for name, value, expected in (
        ("FRCNN_CACHE", own, f"{own / 'jax' / platform.node()} {cli.KEPT_COMPILED}"),
        ("JAX_COMPILATION_CACHE_MAX_SIZE", "5", f"{own / 'jax' / platform.node()} 5"),
        ("JAX_COMPILATION_CACHE_DIR", "mine", "mine 5"),
    ):
        monkeypatch.setenv(name, str(value))
        result = run("-c", code, backend="jax")
        assert result.stdout.strip() == expected, result.stderr


@pytest.mark.parametrize("folder", ["file/cache", "cache"])
def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path, monkeypatch, folder):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path / folder))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    cli._keep_compiled()
    assert ("JAX_COMPILATION_CACHE_DIR" in os.environ) is (folder == "cache")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "plan", "presets", "demo"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "\nusage: frcnn " + command in "\n" + text
    assert " STR" not in text.split("\n\n")[0]  # positional arguments have names that say more
    assert "None,quick" not in text


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["train"], "--resume RUN"),
        (["train", "--resume"], "usage: frcnn train [-h] --resume RUN"),
        (["report"], "RUN [DATA]"),
        (["predict"], "SIGTERM. (one or more)"),
        (["plan"], "usage: frcnn plan [-h] PRESET"),
    ],
)
def test_help_says_what_can_be_given(arguments, shown, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    assert shown in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_a_reader_that_has_had_enough_is_no_error():
    code = (
        "from frcnn.cli import run_safely\n"
        "run_safely(lambda: [print('x' * 999) for _ in range(9999)], keras=False)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("x")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


def test_importing_the_library_decides_nothing():
    code = "import os, frcnn; print(os.environ.get('KERAS_BACKEND'))"
    assert run("-c", code, backend=None).stdout.strip() == "None"
    assert run("-c", code, backend="jax").stdout.strip() == "jax"


def test_names_that_need_keras_come_with_an_installed_backend():
    code = (
        "import importlib.util as u, os, sys; f = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else f(name, *a)\n"
        "import frcnn; frcnn.Config; print('keras' in sys.modules, os.environ['KERAS_BACKEND'])"
    )
    assert run("-c", code, backend=None).stdout.strip() == "False tensorflow"
    assert run("-c", code, backend="jax").stdout.strip() == "False jax"


@pytest.mark.parametrize("name", ["pytorch", "Torch", "numpy", "openvino"])
def test_a_backend_that_is_none_is_a_sentence(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(UserError, match=f"^KERAS_BACKEND is {name}; choose torch, jax or tens"):
        choose_backend()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_TORCH_DEVICE", "cuda")
    with pytest.raises(SystemExit) as ended:
        main(["presets"])
    assert ended.value.code == 2
    assert "is cuda, but PyTorch sees no GPU: unset it" in capsys.readouterr().err


def test_a_backend_is_chosen_and_named_only_where_none_is_set(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert choose_backend().startswith("Backend: torch (KERAS_BACKEND is not set")
    assert os.environ["KERAS_BACKEND"] == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert choose_backend() is None and os.environ["KERAS_BACKEND"] == "jax"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "No space left on device.\n"),
        (
            PermissionError(13, "Permission denied", "/runs/x.csv"),
            "/runs/x.csv: Permission denied.\n",
        ),
    ],
)
def test_what_a_disk_does_not_take_is_a_sentence(error, sentence, capsys):
    def act():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_safely(act, keras=False)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"Error: {sentence}")


def test_an_error_of_the_program_is_not_hidden():
    def act():
        raise ConnectionError(111, "Connection refused")

    with pytest.raises(ConnectionError, match="refused"):
        run_safely(act, keras=False)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_tensorflow_is_not_imported_for_another_backend(backend, tmp_path):
    assert importlib.util.find_spec("tensorflow")
    code = (
        "import sys\nfrom frcnn.cli import run_safely\n"
        "def act():\n"
        "    import keras\n"
        "    keras.utils.set_random_seed(0)\n"
        "    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save('a.keras')\n"
        "    keras.models.load_model('a.keras')\n"
        "run_safely(act)\n"
        "print('tensorflow' in sys.modules)"
    )
    result = run("-c", code, backend=backend, cwd=tmp_path)
    assert result.stdout.strip() == "False", result.stdout + result.stderr


@pytest.mark.parametrize(
    "use", ["frcnn.Detector", "frcnn.cli.run_safely(lambda: __import__('keras'))"]
)
@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_jax_is_not_imported_for_another_backend(backend, use, tmp_path):
    (tmp_path / "jax.py").write_text("print('JAX is imported')")
    code = f"import frcnn, frcnn.cli; {use}; print('ready'); import jax"
    result = run("-c", code, backend=backend, cwd=tmp_path)  # where `import` looks first
    assert result.stdout.splitlines() == ["ready", "JAX is imported"]


def test_a_missing_backend_is_a_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UserError, match="KERAS_BACKEND is jax, which is not installed"):
        choose_backend()
    monkeypatch.delenv("KERAS_BACKEND")
    with pytest.raises(UserError, match="No Keras backend is installed"):
        choose_backend()
    assert set(PREFERENCE) == {"torch", "tensorflow", "jax"}


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_backend_that_keras_misses_is_a_sentence(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)
    message = f"backend {backend}, which is not installed. Set the"
    with pytest.raises(ImportError, match=message), importing_keras():
        importlib.import_module(backend)
    with pytest.raises(ModuleNotFoundError, match="nonsense"), importing_keras():
        importlib.import_module("nonsense")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere"], "nowhere"),
        (["train", "nowhere", "--epochs", "0"], "Error: --epochs must be at least 1"),
        (["audit", "nowhere", "--size", "5"], "Error: --size must be in 32..10,000"),
        (["train", "nowhere", "--epochs", "five"], "--epochs: expected a whole number, not 'five'"),
        (["train", "nowhere", "--epochs", "5.5"], "see frcnn train --help"),
        (["train", "nowhere", "--lr", "quick"], "--lr: expected a number, not 'quick'"),
        (["train", "x", "--devices", "all"], "expected a whole number or auto, not 'all'"),
        (["train", "nowhere", "--recipe", "quik"], "one of ('quick', 'standard', 'long')"),
        (["train", "nowhere", "--resume", "run"], "--resume takes nothing but the run folder"),
        (["train", "--resume", "run", "--epochs", "4"], "DATA --weights RUN --epochs N"),
        (["train", "--resume", "nowhere"], "nowhere is no run folder: it has no config.toml"),
        (["train", "--resume=nowhere"], "nowhere is no run folder"),
        (["report", "nowhere"], "nowhere is no run folder"),
        (["predict", "nowhere", "film.mp4"], "There is no file film.mp4"),
        (["predict", "nowhere", "camera:99"], "No camera 99 was found"),
        (["predict", "nowhere", "voc"], "voc/JPEGImages does: name that"),
        (["predict", "nowhere", "voc", "--out", "file"], "file is a file; --out names a folder"),
        (["train", "voc", "--out", "file"], "file is a file; --out names a folder"),
        (["train", "voc/Annotations"], "is inside a VOC folder: name voc"),
        (["train", "voc", "--preset", "resnet50"], "Did you mean resnet50_c4, resnet50_fpn, "),
        (["convert-data", "voc", "voc/x", "--to", "csv"], "voc/x is inside voc, which is read"),
        (["export", "x.onnx", "--format", "onnx"], "x.onnx is already exported: name the run"),
        (["predict", "nowhere", "nothing.jpg"], "no file or folder nothing.jpg"),
        (["predict", "nowhere", "a.jpg", "--score", "50"], "--score is a share, from 0 to 1"),
        (["predict", "nowhere", "a.jpg", "--score", "nan"], "Received: nan"),
        (["evaluate", "nowhere", "nowhere"], "There is no file or folder nowhere. Check the sp"),
        (["presets", "--loud"], "--loud"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    write_voc(tmp_path / "voc", 2)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("a.PNG", ["a.PNG"]),
        ("a.PNG", ["a.PNG", "--ray"]),
        ("film.mp4", ["film.mp4"]),
        ("part.parquet", ["part.parquet", "--ray"]),
        ("named", ["named"]),
        ("link.json", ["a.PNG"]),
        ("detector.onnx", ["a.PNG"]),
        ("folder", ["a.PNG"]),
    ],
)
def test_json_overwrites_nothing_that_is_read(target, rest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.PNG", "film.mp4", "part.parquet", "named", "detector.onnx"):
        Path(name).write_bytes(b"what is here")
    Path("folder").mkdir()
    Path("link.json").symlink_to("a.PNG")
    with pytest.raises(SystemExit) as caught:
        main(["predict", "detector.onnx", *rest, "--json", target])
    assert caught.value.code == 2 and "--json" in capsys.readouterr().err
    assert {path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {b"what is here"}


@pytest.mark.parametrize("arguments", [["evaluate", "run", "voc"], ["compare", "a", "b", "voc"]])
def test_a_folder_for_json_is_refused_before_the_work(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("voc").mkdir()
    for target in ("voc", "."):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--json", target])
        assert caught.value.code == 2 and f"{target} is a folder" in capsys.readouterr().err


def test_an_unknown_preset_lists_those_there_are(tmp_path, capsys):
    data = write_voc(tmp_path / "voc", 2)
    with pytest.raises(SystemExit):
        main(["train", str(data), "--preset", "yolo", "--val-split", "none"])
    assert "efficientnet_lite0_fpn, efficientnet_lite2_fpn, vgg16" in capsys.readouterr().err


def test_train_evaluate_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "voc", 4, {"train": range(4), "test": range(2, 4)})
    main(["train", "voc", "--epochs", "1", "--batch", "2", "--size", "64", "--out", "run"])
    assert "Done. Best model: run/best.keras" in capsys.readouterr().out
    main(["evaluate", "run", "voc", "--split", "test", "--json", "out/scores.json"])
    shown = capsys.readouterr().out
    assert "VOC07 mAP" in shown and "COCO AP" in shown
    scores = json.loads(Path("out/scores.json").read_text())
    assert {"voc07", "voc12", "coco", "per_class"} <= set(scores)
    assert {"AP", "AP50", "AP75"} <= set(scores["coco"])

    main(["predict", "run", "voc/JPEGImages", "voc/JPEGImages/001.png", "--score", "0.0"])
    assert "5 pictures" in capsys.readouterr().out
    drawn = sorted(p.name for p in Path("predictions").iterdir())
    assert drawn == ["000.png", "001-2.png", "001.png", "002.png", "003.png"]
    main(["predict", "run", "voc/JPEGImages/001.png", "--score", "0", "--json", "found.json"])
    rows = json.loads(Path("found.json").read_text())
    views = ["--tiles", "48", "--overlap", "0.3", "--tta", "--score", "0"]
    main(["predict", "run", "voc/JPEGImages/001.png", *views, "--json", "more.json"])
    (more,) = json.loads(Path("more.json").read_text())
    assert more["detections"] != rows[0]["detections"] and len(more["detections"])
    main(["evaluate", "run", "voc", "--split", "test", "--tiles", "48", "--tta"])
    assert "COCO AP" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "run", "voc", "--tiles", "8"])
    assert caught.value.code == 2
    assert "--tiles must be in 32..100,000. Received: 8." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:  # a file stands where the folder should
        main(["predict", "run", "voc/JPEGImages/001.png", "--out", "found.json"])
    assert caught.value.code == 2 and "found.json is a file; --out names" in capsys.readouterr().err
    assert rows[0]["image"] == "voc/JPEGImages/001.png"
    assert isinstance(rows[0]["detections"], list)


def test_presets_are_listed(capsys):
    main(["presets"])
    assert "efficientnet_lite0_fpn" in capsys.readouterr().out


def test_public_names():
    for name in frcnn.__all__:
        assert getattr(frcnn, name) is not None
    assert set(frcnn.__all__) <= set(dir(frcnn))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = frcnn.nonsense


def test_recipes_are_chosen_by_name_and_flags_win(monkeypatch):
    asked = []
    monkeypatch.setitem(COMMANDS, Config, ("train", asked.append))
    main(["train", "x", "--recipe", "long", "--mosaic", "0", "--epochs", "3"])
    assert asked == [Config("x", recipe="long", mosaic=0.0, epochs=3)]
    main(["train", "x"])
    assert asked[1] == Config("x") and asked[1].epochs == 10

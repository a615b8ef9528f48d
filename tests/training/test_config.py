import dataclasses
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.errors import UserError
from frcnn.training.config import Config


@settings(deadline=None)
@given(
    data=st.text(min_size=1),
    out=st.none() | st.text(),
    lr=st.none() | st.floats(1e-9, 1e3),
    epochs=st.integers(1, 10**9),
    schedule=st.sampled_from(["cosine", "step"]),
    rotate=st.booleans(),
)
def test_toml_round_trip(tmp_path_factory, data, out, lr, epochs, schedule, rotate):
    config = Config(data, out=out, lr=lr, epochs=epochs, schedule=schedule, rotate=rotate)
    file = tmp_path_factory.getbasetemp() / "config.toml"
    try:
        text = config.to_toml().encode("utf-8")
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    file.write_bytes(text)
    assert Config.from_toml(file) == config


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data = 3", "data has a value of the wrong type: 3"),
        ("data = 'x'\nepochs = 'many'", "epochs has a value of the wrong type"),
        ("data = 'x'\nepochs = true", "epochs has a value of the wrong type"),
        ("data = 'x'\nschedule = 'linear'", "schedule has a value of the wrong type"),
        ("data = 'x'\nspeed = 1", "unknown setting 'speed'"),
        ("data = 'x'\nepochs = 0", "--epochs must be at least 1"),
        ("epochs = 3", "'data' is missing"),
        ("data = ", "not a TOML configuration"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, line, message):
    file = tmp_path / "config.toml"
    file.write_text(line)
    with pytest.raises(UserError, match=message) as caught:
        Config.from_toml(file)
    assert "config.toml" in str(caught.value) or "--epochs" in str(caught.value)


def test_what_is_random_is_not_frozen_unless_asked():
    assert Config("x").frozen is None
    assert Config("x", weights="none").frozen == 0
    assert Config("x", weights="none", frozen=2).frozen == 2


def test_a_pickle_is_no_configuration(tmp_path):
    file = tmp_path / "config.toml"
    file.write_bytes(pickle.dumps({"data": "x"}))
    with pytest.raises(UserError, match="not a TOML configuration"):
        Config.from_toml(file)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch", 0),
        ("size", 16),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("clip", float("inf")),
        ("momentum", 1.0),
        ("crop", 1.5),
        ("weight_decay", -1.0),
        ("schedule", "linear"),
        ("epoch_images", 0),
    ],
)
def test_settings_out_of_range_are_refused_with_the_value(setting, value):
    with pytest.raises(UserError, match=str(value)):
        Config("data", **{setting: value})


def test_every_setting_is_documented():
    for field in dataclasses.fields(Config):
        assert f"\n        {field.name}: " in Config.__doc__, field.name


@pytest.mark.parametrize("devices", ["auto", 3])
def test_devices_are_a_number_or_auto(tmp_path, devices):
    config = Config("data", devices=devices, track="wandb")
    (tmp_path / "c.toml").write_text(config.to_toml(), "utf-8")
    assert Config.from_toml(tmp_path / "c.toml") == config


def test_other_devices_are_refused(tmp_path):
    with pytest.raises(UserError, match="--devices is auto or at least 1. Received: 0"):
        Config("data", devices=0)
    (tmp_path / "c.toml").write_text('data = "data"\ndevices = "all"\n', "utf-8")
    with pytest.raises(UserError, match="devices has a value of the wrong type: 'all'"):
        Config.from_toml(tmp_path / "c.toml")

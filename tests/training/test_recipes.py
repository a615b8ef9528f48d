"""The named recipes, and the settings that they give."""

import dataclasses
import inspect

import pytest

from frcnn.errors import UserError
from frcnn.training.augmentation import transforms_of, variety_of
from frcnn.training.config import Config
from frcnn.training.recipes import RECIPES, plain, recipe_values


def test_what_is_left_out_is_the_recipes():
    for name, recipe in RECIPES.items():
        config = Config("x", recipe=name)
        for setting, value in recipe().items():
            assert getattr(config, setting) == value, setting
    for setting, value in plain().items():
        assert getattr(Config("x"), setting) == value


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_given_wins_also_if_it_is_the_plain_value(name):
    for setting, value in plain().items():
        config = Config("x", recipe=name, **{setting: value})
        assert getattr(config, setting) == value
        others = recipe_values(name)
        assert all(getattr(config, each) == others[each] for each in others if each != setting)


@pytest.mark.parametrize("name", [None, *RECIPES])
def test_the_file_holds_the_values_and_the_name(tmp_path, name):
    config = Config("x", recipe=name, ema=0.5)
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert Config.from_toml(file) == config
    for setting in plain():
        assert f"{setting} = {getattr(config, setting)}" in file.read_text()
    assert (f'recipe = "{name}"' in file.read_text()) == (name is not None)


def test_a_copy_keeps_what_was_given():
    config = Config("x", recipe="long", epochs=3)
    assert dataclasses.replace(config, out="y") == Config("x", recipe="long", epochs=3, out="y")


def test_a_recipe_states_its_command_its_duration_and_its_score():
    for name, recipe in RECIPES.items():
        said = inspect.getdoc(recipe)
        for part in (f"frcnn train DATA --recipe {name}", "Duration:", "Score:"):
            assert part in said, (name, part)


def test_recipes_give_only_settings_that_may_be_left_out():
    settings = {field.name: field for field in dataclasses.fields(Config)}
    for recipe in RECIPES.values():
        assert recipe().keys() == plain().keys()
        assert all(settings[name].default is None for name in recipe())


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError, match="--recipe is one of quick, standard, long. Received: fast"):
        Config("x", recipe="fast")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ema", 1.0),
        ("label_smoothing", -0.1),
        ("multi_scale", 1.0),
        ("mosaic", 1.5),
        ("rare", -1.0),
        ("backbone_lr", 0.0),
        ("precision", "float16"),
        ("freeze_epochs", -1),
        ("patience", -1),
        ("close_mosaic", -1),
        ("ema", float("nan")),
    ],
)
def test_values_out_of_range_are_refused(setting, value):
    with pytest.raises(UserError, match=f"--{setting.replace('_', '-')} .*{value}"):
        Config("x", **{setting: value})


def test_patience_without_validation_is_refused():
    with pytest.raises(UserError, match="--patience waits for .*--val-split none"):
        Config("x", patience=3, val_split="none")


def test_the_variety_asked_for():
    variety = variety_of(Config("x", multi_scale=0.25, rare=0.1, mosaic=0.5, epochs=7))
    assert variety.scales == (0.75, 1.0, 1.25)
    assert (variety.rare, variety.mosaics) == (0.1, 0.5)
    assert [variety.mosaics_in(epoch) for epoch in (0, 4, 5, 6)] == [0.5, 0.5, 0, 0]
    assert variety_of(Config("x", mosaic=1.0, epochs=2)).mosaics_in(0) == 0
    assert variety_of(Config("x")).scales == (1.0,)


def test_large_scale_jitter_takes_the_place_of_the_small():
    names = [type(each).__name__ for each in transforms_of(Config("x", large_scale_jitter=True))]
    assert "LargeScaleJitter" in names and "ScaleJitter" not in names

"""Experiments in Python, checked as strictly as files, and their written form, which reads back the same."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from mtl_core.errors import ExperimentError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import options
from mtl_core.settings.toml_file import dump_experiment, parse_experiment

Install = Callable[..., None]
HEAD = 'name = "trial"\n'
TOY = HEAD + "[plugins.toy]\n"


@plugin
class Mean:
    """A plugin with one option."""

    size: tuple[int, int] | None = None

    @hookimpl
    def combine_losses(self, losses: Any) -> Any:
        return losses.mean()


@pytest.mark.usefixtures("toy")
def test_written_and_read_again_it_is_the_same() -> None:
    text = 'clip = 3\nfreeze = ["a\\"b", "µ"]\nlearning_rate = 1e-7\n' + TOY.replace("[", "best_on = 'x'\n[", 1)
    text += "root = 'none of it'\nlimit = 7\nrate = 1e22\n[plugins.\"toy#2\"]\n"
    text += "names = ['x']\n[use]\ncombine_losses = 'toy#2'\n"
    made = parse_experiment(text, "trial.toml")
    written = dump_experiment(made)
    again = parse_experiment(written, "again.toml")
    assert plain(again) == plain(made)
    assert dump_experiment(again) == written
    document = tomllib.loads(written)
    assert set(document) == set(options(Experiment))
    assert set(document["plugins"]["toy"]) == {"rate", "mode", "size", "names", "limit", "bias", "root"}
    assert made.clip == 3.0
    assert made.best_on == "x"


def plain(experiment: Experiment) -> dict[str, Any]:
    settings = {key: getattr(experiment, key) for key in options(Experiment) if key != "plugins"}
    return settings | {name: attrs.asdict(instance) for name, instance in experiment.named.items()}


def test_python_and_file_say_the_same(install: Install) -> None:
    install("mtl-toy", {"toy": "fake_toy:Toy"})
    from fake_toy import Toy  # type: ignore[import-not-found]

    made = Experiment(name="trial", plugins=[Toy(), Toy(rate=3)], use={"combine_losses": "toy#2"})
    assert list(made.named) == ["toy", "toy#2"]
    text = TOY + '[plugins."toy#2"]\nrate = 3\n[use]\ncombine_losses = "toy#2"\n'
    assert dump_experiment(made) == dump_experiment(parse_experiment(text, "trial.toml"))


@pytest.mark.usefixtures("install")
def test_python_is_checked_as_strictly() -> None:
    with pytest.raises(ExperimentError) as error:
        Experiment(name="t", plugins=[Mean(size=(1, "x")), 3], seed="a", epochs=0)  # type: ignore[arg-type]
    assert str(error.value).startswith("Experiment(...): 4 problems")
    assert error.value.problems == (
        'seed: expected a whole number, found "a" (text)',
        "epochs: must be >= 1, found 0",
        'plugins.mean.size[1]: expected a whole number, found "x" (text)',
        "plugins.int: expected an object of a class declared with @plugin, found 3",
    )


@pytest.mark.usefixtures("install")
def test_names_of_instances_are_kept_by_evolve() -> None:
    made = Experiment(name="t", plugins={"mean#a": Mean(), "mean#b": Mean()})
    assert list(attrs.evolve(made, seed=3).named) == ["mean#a", "mean#b"]


def test_every_setting_says_what_it_is() -> None:
    assert all(option.metadata.get("help") for option in options(Experiment).values())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"epochs": 10**30}, "epochs: must be <= 1000000"),
        ({"workers": 10**6}, "workers: must be <= 1024"),
        ({"tasks": ("a", "b", "a")}, "tasks: expected each task once, found a more than once"),
        ({"freeze": ("a", "a")}, "freeze: expected each task once"),
        ({"drop_unlabelled": True, "unlabelled_per_batch": 1}, "unlabelled_per_batch: drop_unlabelled leaves out"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ExperimentError) as error:
        Experiment(name="t", plugins=[], **settings)  # type: ignore[arg-type]
    assert problem in str(error.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    from mtl_core import parse_toml, read_toml

    file = tmp_path / "x.toml"
    file.write_bytes(b"\xef\xbb\xbfname = 'x'\n")
    assert parse_toml(read_toml(file), str(file)) == {"name": "x"}

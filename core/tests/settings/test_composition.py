"""Experiments made of others: bases, plugins added and dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_core.errors import ExperimentError
from mtl_core.settings.composition import read_document
from mtl_core.settings.toml_file import dump_experiment, load_experiment, parse_experiment
from mtl_core.testing import main

Install = Callable[..., None]
Names = tuple[str, ...]

SECOND = """
from mtl_core import hookimpl, plugin

@plugin
class Other:
    strength: float = 1.0

    @hookimpl
    def combine_losses(self, losses):
        return losses.sum()
"""


USE = '[use]\ncombine_losses = "toy"\n'


@pytest.fixture
def folder(install: Install, tmp_path: Path) -> Path:
    install("mtl-toy", {"toy": "fake_toy:Toy"})
    install("mtl-other", {"other": "fake_other:Other"}, SECOND)
    files = {
        "base.toml": 'name = "base"\nepochs = 7\ndrops = [0.1, 0.2]\n[plugins.toy]\nrate = 2\nmode = "l1"\n',
        "parts/more.toml": "batch_size = 3\nepochs = 9\n[plugins.toy]\nrate = 3\n[plugins.other]\n" + USE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def write(folder: Path, text: str, name: str = "x.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def problems(
    path: Path, *, overrides: tuple[str, ...] = (), added: tuple[str, ...] = (), dropped: tuple[str, ...] = ()
) -> str:
    with pytest.raises(ExperimentError) as error:
        load_experiment(path, overrides, added, dropped)
    return str(error.value)


def test_a_file_lies_over_its_base(folder: Path) -> None:
    made = load_experiment(write(folder, 'base = "base.toml"\nname = "x"\ndrops = [0.9]\n[plugins.toy]\nrate = 5\n'))
    assert (made.name, made.epochs, made.drops) == ("x", 7, (0.9,))
    toy = made.plugins["toy"]
    assert (toy.rate, toy.mode) == (5.0, "l1")  # type: ignore[attr-defined]
    assert "base" not in dump_experiment(made).replace('"base"', "")


def test_the_last_of_several_bases_is_on_top(folder: Path) -> None:
    made = load_experiment(write(folder, 'base = ["base.toml", "parts/more.toml"]\nname = "x"\n'))
    assert (made.epochs, made.batch_size) == (9, 3)
    assert made.plugins["toy"].rate == 3.0  # type: ignore[attr-defined]
    assert list(made.plugins) == ["toy", "other"]


def test_a_base_is_beside_the_file_that_names_it(folder: Path) -> None:
    write(folder, 'base = "../base.toml"\nname = "inner"\n', "parts/inner.toml")
    assert load_experiment(write(folder, 'base = "parts/inner.toml"\nname = "x"\n')).epochs == 7


def test_a_circle(folder: Path) -> None:
    write(folder, 'base = "b.toml"\n', "a.toml")
    write(folder, 'base = "a.toml"\n', "b.toml")
    with pytest.raises(ExperimentError, match=r"base: the files name each other in a circle"):
        read_document(folder / "a.toml")


def test_a_base_that_is_none(folder: Path) -> None:
    assert "there is no such file" in problems(write(folder, 'base = "bases.toml"\nname = "x"\n'))
    assert "base: expected a file or a list of files, found 3" in problems(write(folder, "base = 3\n"))
    with pytest.raises(ExperimentError, match="base: is relative to a file, and this text has none"):
        parse_experiment('base = "base.toml"\nname = "x"\n', "x")


def test_plugins_of_a_base_are_left_out(folder: Path) -> None:
    path = write(folder, 'base = ["base.toml", "parts/more.toml"]\nname = "x"\nwithout = ["toy"]\n')
    made = load_experiment(path)
    assert list(made.plugins) == ["other"]
    assert made.use == {}
    path = write(folder, 'base = "base.toml"\nwithout = ["toi"]\n')
    assert 'without toi: the experiment has no plugin "toi"; did you mean "toy"?' in problems(path)


def test_plugins_are_added_and_dropped_on_the_command_line(folder: Path) -> None:
    path = folder / "base.toml"
    both = load_experiment(path, ["plugins.other.strength=4", "use.combine_losses=other"], ["other", "toy"])
    assert list(both.plugins) == ["toy", "other"]
    assert both.plugins["other"].strength == 4.0  # type: ignore[attr-defined]
    assert both.plugins["toy"].rate == 2.0  # type: ignore[attr-defined]
    assert list(load_experiment(path, (), ["other"], ["toy"]).plugins) == ["other"]
    assert list(load_experiment(path, (), ["toy#2"], ["toy"]).plugins) == ["toy#2"]


def test_mistakes_of_the_command_line(folder: Path) -> None:
    path = folder / "base.toml"
    assert '--without othe: the experiment has no plugin "othe" (it has: toy)' in problems(path, dropped=("othe",))
    assert "plugins.oter: no plugin of this name is installed" in problems(path, added=("oter",))
    reported = problems(path, overrides=("plugins.other.strength=4",))
    assert 'the experiment has no plugin "other" (it has: toy; `mtl train --with other` adds it)' in reported


def test_train_takes_the_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The experiment cannot be trained, for want of data: the message shows what was put together."""
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(folder / "base.toml"), "--with", "other", "--out", str(folder / "run")])
    assert stopped.value.code == 2
    assert "combine_losses: toy and other both fill this place" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", str(folder / "base.toml"), "--with=other", "--without=toy", "--out", str(folder / "run")])
    assert "build_dataset: no plugin fills this place" in capsys.readouterr().err

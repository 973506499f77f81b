"""Names that would meet in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtl_core.commands.names import namesake
from mtl_core.experiment import Experiment
from mtl_core.settings.toml_file import dump_experiment
from mtl_core.testing import main
from mtl_core.testing.distributions import Install


def experiment(name: str = "rooms", **settings: Any) -> Experiment:
    return Experiment(name=name, plugins={}, **settings)


def written(folder: Path, made: Experiment) -> Path:
    folder.mkdir()
    (folder / "experiment.toml").write_text(dump_experiment(made), "utf-8")
    return folder


def test_a_run_beside_it_with_other_settings(tmp_path: Path) -> None:
    other = written(tmp_path / "a", experiment(epochs=3))
    text = namesake(experiment(epochs=5, seed=1), tmp_path / "b")
    assert text.startswith(f'{other}: has the name "rooms" too, but epochs was 3, now 5; `mtl compare` takes one name')
    assert "--label" in text


@pytest.mark.parametrize(
    "other",
    [
        experiment(seed=3),
        experiment("other", epochs=7),
        experiment(device="cpu", workers=2),
        experiment(tasks=("depth",), counts_for=("depth",)),
    ],
    ids=["a seed", "another name", "another machine", "a part of a set"],
)
def test_runs_that_do_not_clash(other: Experiment, tmp_path: Path) -> None:
    written(tmp_path / "a", other)
    assert namesake(experiment(), tmp_path / "b") == ""


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "experiment.toml").write_bytes(b'name = "rooms"\n\xff')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "experiment.toml").write_text('name = "rooms"\nepochs = ')
    assert namesake(experiment(), tmp_path / "b") == ""


TOYS = "from mtl_core.testing import ToyData, ToyLabels, ToyNetwork"
FILE = 'name = "toys"\nepochs = 1\ndevice = "cpu"\n[plugins.data]\n[plugins.labels]\n[plugins.network]\n'


def test_train_tells_it(install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install("mtl-toys", {n: f"fake_toys:Toy{n.title()}" for n in ("data", "labels", "network")}, TOYS)
    (tmp_path / "toys.toml").write_text(FILE, "utf-8")
    for folder, batch in (("a", 2), ("b", 4)):
        arguments = ["train", "toys.toml", "--out", f"runs/{folder}", "--quiet", "--set", f"batch_size={batch}"]
        arguments[1], arguments[3] = str(tmp_path / "toys.toml"), str(tmp_path / "runs" / folder)
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
    text = [r.getMessage() for r in caplog.records if "has the name" in r.getMessage()]
    assert len(text) == 1
    assert "batch_size was 2, now 4" in text[0]

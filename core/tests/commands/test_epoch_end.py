"""What plugins and observers see of an epoch's record, and which warnings the run folder keeps."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import pytest
from attrs import field

from mtl_core import Experiment, RunFolder, discovery, help, hookimpl, plain_json, plugin, train
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

SEEN: list[tuple[Path, dict[str, Any]]] = []


@plugin
class Looks:
    """Notes the records, and asks the run to stop."""

    stop_after: int = field(default=100, metadata=help("epochs"))
    fails: bool = field(default=False, metadata=help("whether it fails"))

    @hookimpl
    def after_epoch(self, run_folder: Path, record: Mapping[str, Any]) -> bool:
        if self.fails:
            raise OSError("no connection")
        written = (run_folder / "metrics.jsonl").read_text().splitlines()
        assert json.loads(written[-1])["epoch"] == record["epoch"]
        SEEN.append((run_folder, dict(record)))
        return len(SEEN) >= self.stop_after


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options: dict[str, Any] = {"epochs": 3, "batch_size": 2, "validation": 0.25, "device": "cpu"} | settings
    return Experiment(name="r", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins], **options)


def test_a_plugin_sees_the_record_when_it_is_written(tmp_path: Path) -> None:
    run = train(experiment(Looks()), tmp_path, evaluate_on=None)
    assert [folder for folder, _ in SEEN] == [tmp_path] * 3
    assert [plain_json(record) for _, record in SEEN] == run.history()


def test_true_ends_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(experiment(Looks(stop_after=2)), tmp_path)
    assert len(run.history()) == 2
    assert json.loads(run.results.read_text())["epoch"] == 2
    assert "looks asked the run to stop after epoch 2" in caplog.text


def test_an_error_changes_nothing_of_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(experiment(Looks(fails=True)), tmp_path, evaluate_on=None)
    assert len(run.history()) == 3
    expected = 'the run goes on, but `after_epoch` failed: OSError: no connection (in plugin "looks", hook after_epoch)'
    assert [warning["message"] for warning in run.warned()] == [expected]


OBSERVER = """
from mtl_core import hookimpl, plugin

@plugin
class Watcher:
    @hookimpl
    def after_epoch(self, run_folder, record):
        with open(run_folder / "observed", "a") as file:
            print(record["epoch"], file=file)
        return record["epoch"] == 1
"""


def test_an_observer_sees_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "watching-1.dist-info"
    info.mkdir(parents=True)
    (site / "fake_watching.py").write_text(OBSERVER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: watching\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mtl.observers]\nwatching = fake_watching:Watcher\n")

    def entry_points(group: str) -> list[EntryPoint]:
        return [e for d in distributions(path=[str(site)]) for e in d.entry_points.select(group=group)]

    monkeypatch.setattr(discovery, "entry_points", entry_points)
    monkeypatch.syspath_prepend(str(site))
    run = train(experiment(), tmp_path / "run", evaluate_on=None)
    assert (run.folder / "observed").read_text().split() == ["0", "1"]


def test_keeping_warnings_leaves_logging_as_it_was(tmp_path: Path) -> None:
    before = list(logging.getLogger("mtl").filters), list(logging.getLogger("mtl").handlers)
    run = train(experiment(epochs=1), tmp_path, evaluate_on=None)
    assert (logging.getLogger("mtl").filters, logging.getLogger("mtl").handlers) == before
    assert run.warned() == []
    run.warn(1, "twice")
    run.warn(2, "twice")
    run.warnings.write_text(run.warnings.read_text() + "{half")
    assert RunFolder(tmp_path).warned() == [{"epoch": 1, "message": "twice"}]

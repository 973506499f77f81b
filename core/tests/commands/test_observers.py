"""Observers are found among what is installed; one that cannot be used harms nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import discovery
from mtl_core.commands.observers import open_observers
from mtl_core.commands.train import train
from mtl_core.experiment import Experiment
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

SOURCE = """
from mtl_core import hookimpl, plugin

@plugin
class Toy:
    @hookimpl
    def after_epoch(self, epoch, run_folder):
        (run_folder / "observed").write_text(str(epoch))
        return epoch == 2
"""


def test_an_installed_observer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_watch.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = discovery.installed_plugins
    mine = discovery.InstalledPlugin(name="watch", distribution="mtl-watch", version="1", value="fake_watch:Toy")
    monkeypatch.setattr(discovery, "installed_plugins", lambda **k: [mine] if k else known())
    plugins = [ToyData(size=(8, 8)), ToyLabels(), ToyNetwork()]
    made = Experiment(name="t", plugins=plugins, epochs=4, validation=0.0, device="cpu", batch_size=4)
    run = train(made, tmp_path / "run")
    assert (run.folder / "observed").read_text() == "2"
    assert len(run.history()) == 3


FAULTY = {
    "FOREIGN": "an observer has only ['after_epoch', 'after_predict', 'after_run'], found ['augment']",
    "ABSENT": "mtl-watch 1: cannot be imported: AttributeError",
    "BARE": "is not a class declared with @plugin",
}
CLASSES = """
from mtl_core import hookimpl, plugin

@plugin
class FOREIGN:
    @hookimpl
    def augment(self, images): return images

class BARE: ...
"""


@pytest.mark.parametrize("name", FAULTY)
def test_an_observer_that_cannot_be_used_is_reported_and_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"fake_watch_{name.lower()}.py").write_text(CLASSES + SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [
        discovery.InstalledPlugin(
            name=cls.lower(), distribution="mtl-watch", version="1", value=f"fake_watch_{name.lower()}:{cls}"
        )
        for cls in (name, "Toy")
    ]
    monkeypatch.setattr(discovery, "installed_plugins", lambda **_: found)
    assert list(open_observers().plugins) == ["toy"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"observer {name.lower()}: ")
    assert FAULTY[name] in message

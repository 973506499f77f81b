"""What a plugin promises that looks at epochs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mtl_core.testing.contract import PluginContract


class EpochContract(PluginContract):
    """Checks of ``after_epoch``, of plugins and of observers.

    :cvar epochs: metrics of some epochs, as ``metrics.jsonl`` would have them
    """

    hook = "after_epoch"
    epochs: ClassVar[tuple[Mapping[str, float], ...]] = (
        {"train/loss": 2.0, "train/loss/depth": 1.0, "val/depth/rmse": 1.5, "skipped_steps": 0.0},
        {"train/loss": 1.0, "train/loss/depth": 0.5, "val/depth/rmse": 1.2, "skipped_steps": 1.0},
        {"train/loss": math.nan, "skipped_steps": 4.0},
    )

    def test_answers_whether_the_run_ends(self, plugin: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            hooks = self.prepare(plugin)
            for epoch, metrics in enumerate(self.epochs):
                assert hooks.after_epoch(epoch, dict(metrics), Path(folder)) in (True, False)

    def test_leaves_the_metrics_as_they_are(self, plugin: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            hooks = self.prepare(plugin)
            for epoch, metrics in enumerate(self.epochs):
                given = dict(metrics)
                hooks.after_epoch(epoch, given, Path(folder))
                assert str(given) == str(dict(metrics)), "metrics were changed; log by step.logged instead"

    def test_leaves_the_files_of_the_run_alone(self, plugin: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / name for name in ("experiment.toml", "metrics.jsonl", "last.ckpt")}
            for file in files.values():
                file.write_text("as it was", "utf-8")
            hooks = self.prepare(plugin)
            for epoch, metrics in enumerate(self.epochs):
                hooks.after_epoch(epoch, dict(metrics), Path(folder))
            for name, file in files.items():
                assert file.is_file(), f"{name} of the run was removed"
                assert file.read_text("utf-8") == "as it was", f"{name} of the run was changed"

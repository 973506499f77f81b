"""What loggers write, read back from their own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl_core import Experiment, MtlError, RunFolder, train
from mtl_core.testing import ToyData, ToyLabels, ToyNetwork
from mtl_loggers import MLflow, TensorBoard, WandB
from mtl_loggers.logger import _flat, _scalars


def experiment(logger: object, epochs: int = 2) -> Experiment:
    plugins = [ToyData(), ToyLabels(), ToyNetwork(), logger]
    return Experiment(name="toys", plugins=plugins, epochs=epochs, batch_size=2, validation=0.5, device="cpu")


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def logged(found: EventAccumulator, name: str) -> dict[int, float]:
    return {event.step: event.value for event in found.Scalars(name)}


def test_tensorboard_has_what_metrics_jsonl_has(tmp_path: Path) -> None:
    run = train(experiment(TensorBoard()), tmp_path)
    found = events(tmp_path)
    history = run.history()
    expected: dict[str, dict[int, float]] = {}
    for record in history:
        for name, value in _scalars(record).items():
            expected.setdefault(name, {})[record["epoch"] + 1] = value
    assert {"train/loss", "train/loss/depth", "val/depth/abs_err", "learning_rate", "seconds"} <= set(expected)
    for name, values in expected.items():
        assert logged(found, name) == pytest.approx(values, rel=1e-6)
    test = {name for name in found.Tags()["scalars"] if name.startswith("test/")}
    assert "test/depth/abs_err" in test
    assert set(found.Tags()["scalars"]) == set(expected) | test


def test_tensorboard_has_the_settings(tmp_path: Path) -> None:
    train(experiment(TensorBoard(), epochs=1), tmp_path, evaluate_on=None)
    (event,) = events(tmp_path).Tensors("experiment/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert "batch_size = 2" in text
    assert "plugins.toydata.samples = 8" in text


def test_a_resume_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    train(experiment(TensorBoard(), epochs=1), tmp_path)
    run = train(experiment(TensorBoard(), epochs=3), tmp_path, resume=True)
    expected = {record["epoch"] + 1: record["train/loss"] for record in run.history()}
    assert logged(events(tmp_path), "train/loss") == pytest.approx(expected, rel=1e-6)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def settings(self, settings: Mapping[str, Any]) -> None:
        self.seen.append(("settings", settings["name"]))

    def values(self, values: Mapping[str, float], epoch: int) -> None:
        self.seen.append((epoch, sorted(name.partition("/")[0] for name in values)))

    def close(self) -> None:
        self.seen.append("closed")


@pytest.mark.parametrize("kind", [TensorBoard, WandB, MLflow])
def test_every_logger_hands_on_the_same(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    monkeypatch.setattr(kind, "open", lambda self, run_folder, name, first: kept)
    monkeypatch.setattr("mtl_loggers.logger.find_spec", lambda name: True)
    train(experiment(kind(), epochs=1), tmp_path)
    first, epoch, test, last = kept.seen
    assert (first, last) == (("settings", "toys"), "closed")
    assert epoch[0] == test[0] == 1
    assert {"train", "val", "heads", "learning_rate"} <= set(epoch[1])
    assert set(test[1]) == {"test"}


def test_a_package_that_is_missing_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_loggers.logger.find_spec", lambda name: None)
    with pytest.raises(MtlError, match=r'wandb: not installed; pip install "mtl-loggers\[wandb\]"'):
        train(experiment(WandB()), tmp_path)
    assert RunFolder(tmp_path).history() == []


def test_what_is_no_finite_number_is_left_out() -> None:
    record = {"epoch": 1, "event": "epoch", "a": 1, "b": float("nan"), "c": None, "d": "text", "e": 2.5, "f": True}
    assert _scalars(record) == {"a": 1.0, "e": 2.5}
    assert _flat({"a": 1, "plugins": {"x": {"y": [1]}}}) == {"a": 1, "plugins.x.y": [1]}


def test_wandb_offline_has_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="an extra of the distribution")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for epochs in (1, 2):
        train(experiment(WandB(mode="offline"), epochs), tmp_path, resume=epochs > 1)
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name == f"run-{(tmp_path / 'wandb' / 'run-id').read_text()}.wandb"
    assert b"val/depth/abs_err" in first.read_bytes()
    assert b"test/depth/abs_err" in second.read_bytes()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_mlflow_has_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra of the distribution")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a data base needs more than mlflow-skinny
    uri = (tmp_path / "store").as_uri()
    for epochs in (1, 2):
        run = train(experiment(MLflow(uri=uri), epochs), tmp_path / "run", resume=epochs > 1)
    client = mlflow.MlflowClient(uri)
    identity = (tmp_path / "run" / "mlflow" / "run-id").read_text()
    found = {metric.step: metric.value for metric in client.get_metric_history(identity, "train/loss")}
    assert found == pytest.approx({record["epoch"] + 1: record["train/loss"] for record in run.history()})
    made = client.get_run(identity)
    assert (made.info.run_name, made.info.status) == ("toys-0", "FINISHED")
    assert made.data.tags["epochs"] == "2"

"""Where values go. The libraries are imported when the first epoch has ended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Sink(Protocol):
    """Takes a run's settings and values."""

    def settings(self, settings: Mapping[str, Any]) -> None: ...

    def values(self, values: Mapping[str, float], epoch: int) -> None:
        """Values of an epoch, from 1."""
        ...

    def close(self) -> None: ...


class TensorBoardSink:
    """Events in ``RUN/tensorboard``, by Fabric's logger."""

    def __init__(self, run_folder: str, first: int) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        # purge_step: a resume repeats epochs that an interrupted run had logged
        self._logger = TensorBoardLogger(run_folder, name="tensorboard", version="", purge_step=first)

    def settings(self, settings: Mapping[str, Any]) -> None:
        lines = [f"    {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
        self._logger.experiment.add_text("experiment", "\n".join(lines))

    def values(self, values: Mapping[str, float], epoch: int) -> None:
        self._logger.log_metrics(dict(values), epoch)
        self._logger.save()

    def close(self) -> None:
        self._logger.finalize("success")


class WandBSink:
    """A run of Weights & Biases; its id is in ``RUN/wandb``."""

    def __init__(self, run_folder: str, name: str, project: str, mode: str) -> None:
        import wandb

        identity = Path(run_folder) / "wandb" / "run-id"
        identity.parent.mkdir(exist_ok=True)
        if not identity.is_file():
            identity.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run: Any = wandb.init(
            project=project, name=name, id=identity.read_text(encoding="utf-8"), resume="allow", dir=run_folder,
            mode=mode,
        )  # fmt: skip

    def settings(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings), allow_val_change=True)

    def values(self, values: Mapping[str, float], epoch: int) -> None:
        # steps must grow, and a resume repeats epochs: the epoch is an axis of its own
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        self._run.log({**values, "epoch": epoch})

    def close(self) -> None:
        self._run.finish()


class MLflowSink:
    """A run of MLflow; its id is in ``RUN/mlflow``."""

    def __init__(self, run_folder: str, name: str, experiment: str, uri: str | None) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(uri)
        identity = Path(run_folder) / "mlflow" / "run-id"
        identity.parent.mkdir(exist_ok=True)
        if not identity.is_file():
            known = self._client.get_experiment_by_name(experiment)
            group = known.experiment_id if known else self._client.create_experiment(experiment)
            made = self._client.create_run(group, run_name=name)
            identity.write_text(made.info.run_id, encoding="utf-8")
        self._run = identity.read_text(encoding="utf-8")
        self._client.update_run(self._run, status="RUNNING")

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Tags, since MLflow refuses a parameter whose value a resume has changed, such as the epochs."""
        for key, value in settings.items():
            self._client.set_tag(self._run, key.replace("#", "_"), value)

    def values(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name.replace("#", "_"), value, step=epoch)

    def close(self) -> None:
        self._client.set_terminated(self._run)

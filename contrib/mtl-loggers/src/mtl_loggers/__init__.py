"""Loggers: TensorBoard, Weights & Biases, MLflow. ``metrics.jsonl`` stays the truth; they get a copy of each record."""

from __future__ import annotations

from typing import Literal

from attrs import field
from attrs.validators import in_

from mtl_core import help, plugin
from mtl_loggers.logger import Logger
from mtl_loggers.sinks import MLflowSink, Sink, TensorBoardSink, WandBSink

__all__ = ["MLflow", "Sink", "TensorBoard", "WandB"]


@plugin
class TensorBoard(Logger):
    """Each epoch's record as TensorBoard events, in the run's folder ``tensorboard``."""

    package = "tensorboard"

    def open(self, run_folder: str, name: str, first: int) -> Sink:
        return TensorBoardSink(run_folder, first)


@plugin
class WandB(Logger):
    """Each epoch's record in a run of Weights & Biases, which a resume goes on with."""

    package = "wandb"
    project: str = field(default="mtl", metadata=help("project that the run belongs to"))
    mode: Literal["online", "offline"] = field(
        default="online", validator=in_(("online", "offline")), metadata=help("offline: keep it for `wandb sync`")
    )

    def open(self, run_folder: str, name: str, first: int) -> Sink:
        return WandBSink(run_folder, name, self.project, self.mode)


@plugin
class MLflow(Logger):
    """Each epoch's record in a run of MLflow, which a resume goes on with."""

    package = "mlflow"
    experiment: str = field(default="mtl", metadata=help("MLflow's experiment that the run belongs to"))
    uri: str | None = field(
        default=None, metadata=help("where it is tracked; none: MLflow's own setting, MLFLOW_TRACKING_URI")
    )

    def open(self, run_folder: str, name: str, first: int) -> Sink:
        return MLflowSink(run_folder, name, self.experiment, self.uri)

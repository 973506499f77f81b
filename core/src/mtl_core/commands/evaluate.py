"""``mtl evaluate``: a run's checkpoint on a split, and the results file."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import lightning_fabric
import torch
from torch import nn

from mtl_core.commands.changed_tasks import with_changed_options
from mtl_core.commands.finished_run import EndedRun, call_after_run
from mtl_core.console import is_rank_zero
from mtl_core.data.datasets import BlankedDataset, Selected, every_label
from mtl_core.data.sample import MultiTaskDataset
from mtl_core.errors import CheckpointError
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder, to_json, write_text
from mtl_core.settings.diff import unlike
from mtl_core.settings.toml_file import dump_experiment, parse_toml, read_toml
from mtl_core.training.checkpoint import count_in, load_checkpoint, reading
from mtl_core.training.evaluation import directions, evaluate, headlines, units
from mtl_core.training.fabric import make_fabric
from mtl_core.training.loader import evaluation_loader
from mtl_core.training.run_files import load_run
from mtl_core.training.session import Model, held_out
from mtl_core.training.trained import CHECKPOINTS, load_model, unknown_checkpoint

_log = logging.getLogger("mtl")


@attrs.frozen(eq=False)
class Evaluation:
    """What a network gave on one split.

    :param metrics: ``task/metric`` → value
    :param details: what the results file has besides them, such as ``task/iou/class``
    :param problems: why the metrics cannot be used, a sentence each
    """

    split: str
    data: BlankedDataset
    metrics: dict[str, float]
    details: dict[str, float] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    images: dict[int, dict[str, float]] = attrs.field(factory=dict)
    """Position → task → loss, of rank 0's images."""


def evaluate_split(
    model: Model, fabric: lightning_fabric.Fabric, split: str, dataset: MultiTaskDataset | None = None
) -> Evaluation:
    """Evaluate a network as it is on every label of one split, on all ranks together.

    :param dataset: of the split, where it was made already
    """
    dataset = model.hooks.build_dataset(split) if dataset is None else dataset
    if dataset.tasks.names != model.tasks.names:
        dataset = Selected(dataset, model.tasks.names)
    labelled = every_label(dataset)
    loader = evaluation_loader(
        dataset,
        labelled,
        list(range(len(dataset))),
        model.experiment.batch_size,
        fabric.global_rank,
        fabric.world_size,
        model.experiment.workers,
        fabric.device.type == "cuda",
    )
    found = evaluate(model.network, loader, fabric.device, fabric.autocast)
    problems = [f"{split} data: {problem}" for problem in found.problems]
    data = BlankedDataset(dataset, labelled)
    return Evaluation(split, data, found.metrics, found.details, problems, found.images)


def write_results(
    path: Path, model: Model, evaluation: Evaluation, name: str, epoch: int, overrides: Sequence[str] = ()
) -> None:
    """Write a results file.

    :param name: of the checkpoint
    :param overrides: what differs from the run's settings, for the record
    """
    about = {
        "name": model.experiment.name,
        "seed": model.experiment.seed,
        "split": evaluation.split,
        "checkpoint": name,
        "epoch": epoch,
        "level": model.experiment.level if model.hooks.need_seam else None,
        "counts_for": list(model.experiment.counts_for),
        "metrics": evaluation.metrics,
        "details": evaluation.details,
        "headline": headlines(model.tasks),
        "directions": directions(model.tasks, evaluation.metrics),
        "units": units(model.tasks, evaluation.metrics),
        "parameters": _parameters_of(model),
        "device": _device_name(model),
        **({"overrides": list(overrides)} if overrides else {}),
        **({"problems": evaluation.problems} if evaluation.problems else {}),
    }
    write_text(path, to_json(about, indent=2))


def _parameters_of(model: Model) -> dict[str, int]:
    """Learned numbers of the encoder, of each head and of each plugin."""
    network = model.network
    parts: dict[str, nn.Module] = {"encoder": network.backbone}
    parts |= {f"head {name}": network.heads[name] for name in model.tasks.names}
    parts |= {f"plugin {name}": p for name, p in model.hooks.plugins.items() if isinstance(p, nn.Module)}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return {name: count for name, count in counts.items() if count}


def _device_name(model: Model) -> str:
    """Of the device that the network is on."""
    device = next(model.network.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{device.type} ({name})"


def read_results(run: RunFolder) -> dict[str, Any]:
    """The record in ``results.json``.

    :raises CheckpointError: the file is damaged
    """
    try:
        record = json.loads(run.results.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged_results(run, "not JSON") from error
    if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
        raise _damaged_results(run, "not a record with metrics")
    return record


def _damaged_results(run: RunFolder, reason: str) -> CheckpointError:
    return CheckpointError(f"{run.results}: {reason}; `mtl evaluate {run.folder}` writes it again")


def record_runtime(run: RunFolder) -> None:
    """Note the time of all epochs, those before a resume too."""
    if run.results.is_file():
        record = read_results(run)
        seconds = sum(epoch.get("seconds") or 0.0 for epoch in run.history())
        write_text(run.results, to_json(record | {"runtime_seconds": round(seconds, 1)}, indent=2))


def evaluate_run(
    run: RunFolder,
    split: str = "test",
    name: str = "last",
    overrides: tuple[str, ...] = (),
    experiment: Experiment | None = None,
) -> dict[str, float]:
    """``mtl evaluate``: evaluate a run's checkpoint on a split.

    Writes ``results.json``, which tables are made of, where it evaluates what ``mtl train`` evaluates; else
    ``results-SPLIT-CHECKPOINT.json``, with the overrides in it.

    :param name: ``"last"`` or ``"best"`` (on validation data)
    :param overrides: settings that differ on this machine, such as ``plugins.name.root=…``, or other data
    :param experiment: the run's, where its plugins were defined in Python; None: that of its folder, with the overrides
    """
    if name not in CHECKPOINTS:
        raise CheckpointError(unknown_checkpoint("--checkpoint", name))
    experiment = experiment or load_run(run, overrides)
    fabric = make_fabric(experiment)
    fabric.launch()
    path = run.checkpoint(name)
    state = load_checkpoint(path)
    with reading(path):
        epoch = count_in(state, "epoch")
    # weights of another experiment may have the same names and shapes
    _check_same_experiment(run, state, path)
    model = load_model(experiment, state, path)
    model.network.to(fabric.device)
    held = _validation_share(run, model) if split == "val" else None
    dataset = model.hooks.build_dataset(split) if held is None else held
    model.network.tasks = with_changed_options(model.tasks, dataset, run.experiment, overrides, split)
    suffix = "" if _evaluates_as_training(run, experiment, split, name) else f"-{split}-{name}"
    found = evaluate_split(model, fabric, split, dataset)
    if fabric.is_global_zero:
        for problem in found.problems:
            _log.warning("%s: %s", run.folder, problem)
        write_results(run.folder / f"results{suffix}.json", model, found, name, epoch, overrides)
        if not suffix:
            record_runtime(run)
        call_after_run(EndedRun(run.folder, model, fabric, found.data, suffix, found.images))
    return found.metrics


def _validation_share(run: RunFolder, model: Model) -> MultiTaskDataset | None:
    """What ``--split val`` evaluates where the data have no such split: what the run kept of its training data."""
    hooks = model.hooks
    if "val" in hooks.splits:
        return None
    held = held_out(model.experiment, hooks, run)
    if is_rank_zero():
        _log.warning(
            "%s: the data have no split val (they have: %s); evaluating the %d training samples that the run kept"
            " for validation",
            run.folder, ", ".join(hooks.splits), len(held),
        )  # fmt: skip
    return held


def _check_same_experiment(run: RunFolder, state: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that another experiment wrote, although its weights happen to fit."""
    written = state.get("experiment")
    if not isinstance(written, str):
        raise CheckpointError(f"{path}: does not say which experiment wrote it; train again with this version")
    own = parse_toml(read_toml(run.experiment), str(run.experiment))
    if changed := unlike(parse_toml(written, str(path)), own):
        raise CheckpointError(
            f"{path}: written by another experiment than {run.experiment} ({'; '.join(changed[:3])});"
            " put the run's own checkpoint back"
        )


_NO_MATTER = ("batch_size", "devices", "nodes", "plugins.*.weights")
"""Settings that do not change what a trained network predicts, besides those of a machine."""


def _evaluates_as_training(run: RunFolder, experiment: Experiment, split: str, name: str) -> bool:
    """Whether this is the last checkpoint on the test split, with the run's own settings."""
    old = parse_toml(read_toml(run.experiment), str(run.experiment))
    new = parse_toml(dump_experiment(experiment), "")
    return (split, name) == ("test", "last") and not unlike(old, new, _NO_MATTER)

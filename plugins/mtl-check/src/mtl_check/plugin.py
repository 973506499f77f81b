"""Every contract that fits a plugin, in every form that a run may give it, and a run that is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mtl_check.findings import Findings
from mtl_core import ContractError, Experiment, MtlError, Task, load_checkpoint, train
from mtl_core.testing import (
    AugmentContract,
    BackboneContract,
    Contract,
    DatasetContract,
    GradientShaperContract,
    GradientWatcherContract,
    LabelMaskContract,
    LossRuleContract,
    PluginContract,
    RegularizerContract,
    TaskContract,
    ToyData,
    ToyLabels,
    ToyNetwork,
    TransformContract,
    WindowsContract,
    count_views,
)

_CONTRACTS: tuple[type[PluginContract], ...] = (
    DatasetContract, LabelMaskContract, TransformContract, WindowsContract, AugmentContract, BackboneContract,
    LossRuleContract, RegularizerContract, GradientWatcherContract, GradientShaperContract,
)  # fmt: skip
"""In the order of a run."""
_TASKS = {
    "K = 2": ("segmentation", "depth"),
    "K = 3": ("segmentation", "depth", "normals"),
    "K = 5": ("segmentation", "depth", "normals", "edges", "shading"),
}
"""What contracts are tried with that take the tasks of the test."""
_SIZE = (16, 24)
"""(H, W) of the contracts' images: small, not square."""
_OWN_TASKS = (DatasetContract, LabelMaskContract, WindowsContract, AugmentContract)
"""Contracts that bring tasks of their own, or need none."""
_PARTS = {"data": "build_dataset", "labels": "make_label_mask", "network": "build_backbone"}
"""What a run needs beside the plugin → the hook by which the plugin brings it."""


def check_plugin(plugin: Any, trained: bool = True) -> Findings:
    """Run every contract that fits.

    :param plugin: an instance of a class declared with ``@plugin``
    :param trained: whether it is also trained for two steps, stopped and resumed
    """
    found = Findings()
    for what, contract in _fitting(plugin):
        _check_contract(found, what, contract, plugin)
    if trained:
        _check_runs(found, plugin)
    return found


def check_kind(kind: type[Task], name: str, channels: int = 3) -> Findings:
    """Run the contract of a kind of task."""
    found = Findings()
    try:
        task = kind(name=name, channels=channels)
    except TypeError:
        task = kind(name=name)  # type: ignore[call-arg]  # a kind whose channels have a default or follow from options
    for check in _checks_of(TaskContract):
        found.run(check.removeprefix("test_"), "", partial(getattr(TaskContract(), check), task))
    return found


def _fitting(plugin: Any) -> Iterator[tuple[str, type[PluginContract]]]:
    """(what is special about it, a contract that the plugin has to keep)."""
    for contract in _CONTRACTS:
        if not _fills(plugin, contract.hook):
            continue
        if issubclass(contract, DatasetContract):
            yield "", _with_splits(contract, plugin)
        elif issubclass(contract, _OWN_TASKS):
            yield "", contract
        else:
            for what, names in _TASKS.items():
                yield what, _varied(contract, task_names=names, image_size=_SIZE)
        if issubclass(contract, RegularizerContract | LossRuleContract) and count_views(plugin) < 2:
            yield "two views", _varied(contract, views=2, image_size=_SIZE)


def _with_terms(contract: type[PluginContract], plugin: Any) -> type[PluginContract]:
    """The contract of regularizers, told whether the plugin adds anything in this experiment."""
    if not issubclass(contract, RegularizerContract):
        return contract
    ready = contract()
    try:
        terms = ready.raw(ready.prepare(plugin), ready.make_step(plugin))
    except Exception:
        return contract
    return _varied(contract, adds_nothing=not terms)


def _fills(plugin: Any, hook: str) -> bool:
    answered = getattr(plugin, "fills", (hook,))
    return hasattr(getattr(plugin, hook, None), "mtl_impl") and hook in answered


def _varied(contract: type[PluginContract], **attributes: Any) -> type[PluginContract]:
    return type(contract.__name__, (contract,), {"__module__": contract.__module__, **attributes})


def _with_splits(contract: type[DatasetContract], plugin: Any) -> type[PluginContract]:
    """The contract with the splits that the data have; the training data must be there."""
    splits = ["train", *(split for split in ("test",) if _opens(plugin, split))]
    return _varied(contract, splits=tuple(splits))


def _opens(plugin: Any, split: str) -> bool:
    try:
        DatasetContract().open(plugin, split)
    except MtlError:
        return False
    return True


def _check_contract(found: Findings, what: str, contract: type[PluginContract], plugin: Any) -> None:
    """Run a contract; a plugin that refuses what it is set up with is refused once and not in every check."""
    if (refusal := _refused(contract, plugin)) is not None:
        found.run(contract.hook, what, partial(_raise, refusal))
        return
    contract = _with_terms(contract, plugin)
    for check in _checks_of(contract):
        name = f"{check.removeprefix('test_')} of {contract.hook}"
        found.run(name, what, partial(getattr(contract(), check), plugin))


def _refused(contract: type[PluginContract], plugin: Any) -> MtlError | None:
    """Why a plugin cannot be set up with the contract's tasks; a fault is left to the checks."""
    ready = contract()
    try:
        ready.open(plugin) if isinstance(ready, DatasetContract) else ready.prepare(plugin)
    except ContractError:
        return None
    except MtlError as error:
        return error
    except Exception:
        return None
    return None


def _raise(error: Exception) -> None:
    raise error


def _checks_of(contract: type[Contract]) -> list[str]:
    return [name for name in dir(contract) if name.startswith("test_") and name not in contract.skips]


def _check_runs(found: Findings, plugin: Any) -> None:
    """Train two steps in one go, and with a stop between them; in bfloat16 too."""
    with TemporaryDirectory() as folder:
        found.run("a run of two steps, resumed after the first", "", partial(_check_resumes, plugin, Path(folder)))
        found.run("a run of two steps in bfloat16", "", partial(_check_half, plugin, Path(folder)))


def _experiment(plugin: Any, epochs: int, precision: str = "32") -> Experiment:
    """A small run with the plugin; what it does not bring is a toy."""
    toys: dict[str, object] = {"data": ToyData(samples=5), "labels": ToyLabels(), "network": ToyNetwork()}
    plugins: dict[str, Any] = {part: toys[part] for part, hook in _PARTS.items() if not _fills(plugin, hook)}
    settings: dict[str, Any] = {"precision": precision, "epochs": epochs}
    return Experiment(
        name="check", plugins=plugins | {"plugin": plugin}, batch_size=4, validation=0.2, device="cpu", **settings
    )


def _check_resumes(plugin: Any, folder: Path) -> None:
    """An epoch is one step here, and a checkpoint is written behind each."""
    train(_experiment(plugin, 2), folder / "whole", evaluate_on=None)
    train(_experiment(plugin, 1), folder / "stopped", evaluate_on=None)
    train(_experiment(plugin, 2), folder / "stopped", evaluate_on=None, resume=True)
    whole, resumed = (load_checkpoint(folder / name / "last.ckpt") for name in ("whole", "stopped"))
    differ = sorted(_differing(whole, resumed))
    assert not differ, f"a resumed run ends otherwise than one that was not stopped: {', '.join(differ[:4])} differ"


def _check_half(plugin: Any, folder: Path) -> None:
    run = train(_experiment(plugin, 2, "bf16"), folder / "half", evaluate_on=None)
    assert all(record.get("skipped", 0) == 0 for record in run.history()), "a step in bfloat16 is not finite"


def _differing(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Where two checkpoints differ; NaN equals NaN."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.shape != b.shape or not torch.equal(a.nan_to_num(), b.nan_to_num()) or not torch.equal(a != a, b != b):
            yield path
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() | b.keys():
            inner = f"{path}.{key}" if path else str(key)
            if key in a and key in b:
                yield from _differing(a[key], b[key], inner)
            else:
                yield inner
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for k, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _differing(one, other, f"{path}[{k}]")
    elif a != b:
        yield path

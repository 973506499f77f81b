"""``mtl train``: from an experiment to a finished run folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path

import lightning_fabric
import torch
from PIL import Image
from torch import nn

from mtl_core import changes, checkpoint, pictures
from mtl_core.data import Batch, Selected
from mtl_core.discovery import installed
from mtl_core.errors import CheckpointError, MtlError
from mtl_core.evaluation import evaluate, headlines
from mtl_core.experiment import Experiment
from mtl_core.loading import Batches, evaluation_loader
from mtl_core.loop import Trainer, Watcher, make_fabric
from mtl_core.losses import sample_losses, task_losses
from mtl_core.report import skipped_steps, write_report
from mtl_core.run import Run, to_json, write_text
from mtl_core.seeds import generator_for
from mtl_core.session import Session, open_hooks, prepare
from mtl_core.settings import dump_experiment, load_experiment, parse, read_text
from mtl_core.step import Step
from mtl_core.training import as_float
from mtl_core.units import units

log = logging.getLogger("mtl")

MAY_CHANGE = changes.MAY_CHANGE


def train(
    experiment: Experiment,
    out: Path | str,
    *,
    resume: bool = False,
    watch: Watcher = lambda epoch, batch, batches: None,
    evaluate_on: str | None = "test",
) -> Run:
    """Train an experiment and judge it.

    :param out: the run's folder
    :param resume: go on where ``out`` stopped; a run that has not begun is begun
    :param watch: called after every batch
    :param evaluate_on: the split that is evaluated at the end (``results.json``, pictures, report); None for none
    :raises MtlError: the folder holds a run already, or nothing to resume; or the experiment cannot be built
    """
    run = open_run(experiment, Path(out), resume)
    fabric = make_fabric(experiment)
    with run.locked() if fabric.is_global_zero else nullcontext():
        launch(experiment, run, fabric)
        train_in(run, experiment, fabric, watch, evaluate_on)
    return run


LAUNCHED = "MTL_LAUNCHED"
"""In the environment of the processes that Fabric's own launcher starts: their first process called ``before_run``."""


def launch(experiment: Experiment, run: Run, fabric: lightning_fabric.Fabric) -> None:
    """Call ``before_run``, then start the run's processes, each of which comes here by itself."""
    if os.environ.pop(LAUNCHED, None) is None:
        open_hooks(experiment).before_run(experiment, run.folder)
    os.environ[LAUNCHED] = "1"
    try:
        fabric.launch()
    finally:
        del os.environ[LAUNCHED]


def train_in(
    run: Run, experiment: Experiment, fabric: lightning_fabric.Fabric, watch: Watcher, evaluate_on: str | None
) -> None:
    """Train in a folder that no other process uses."""
    if fabric.is_global_zero:
        run.clear_remains()
    fabric.barrier()
    session = prepare_everywhere(experiment, run, fabric)
    trainer = Trainer(session, fabric, run)
    if run.checkpoint().is_file():
        trainer.resume()
    if fabric.is_global_zero:
        write_text(run.experiment, dump_experiment(experiment))
        write_text(run.folder / "versions.json", to_json(versions(experiment), indent=2))
    trainer.fit(watch)
    if fabric.is_global_zero and (skipped := skipped_steps(run)):
        log.warning(skipped)
    if evaluate_on is not None:
        judge(run, session, fabric, evaluate_on, "last", trainer.epoch)
    if fabric.is_global_zero:
        draw_plugins(run, session, fabric)
        record_runtime(run)
        write_report(run.folder)


def open_run(experiment: Experiment, out: Path, resume: bool) -> Run:
    """Refuse to overwrite a run, or to resume another experiment than the folder's."""
    run = Run(out)
    if not run.experiment.is_file():
        return run
    if not resume:
        raise MtlError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    before = load_experiment(run.experiment)
    changed = differences(before, experiment)
    if changed:
        raise CheckpointError(
            f"{out}: this run was started with other settings ({'; '.join(changed)}); resume it with its own"
            f" {run.experiment.name}, or choose another --out"
        )
    return run


def differences(before: Experiment, after: Experiment, free: Collection[str] = MAY_CHANGE) -> list[str]:
    """Settings that differ and may not in a resume, each with both values.

    :param free: settings that may, as :func:`mtl_core.changes.differing` takes them
    """
    old, new = (parse(dump_experiment(e), e.name) for e in (before, after))
    return changes.differing(old, new, free)


def prepare_everywhere(experiment: Experiment, run: Run, fabric: lightning_fabric.Fabric) -> Session:
    """Rank 0 draws and saves the label mask, the others read it; what it cannot build it alone tells."""
    session, mistake = None, None
    if fabric.is_global_zero:
        try:
            session = prepare(experiment, run)
        except MtlError as error:
            mistake = error
    if fabric.broadcast(mistake is not None):
        raise mistake or SystemExit(2)
    return session or prepare(experiment, run)


def versions(experiment: Experiment) -> dict[str, str]:
    """Version of core, torch and every plugin's distribution."""
    found = {f.name: f"{f.distribution} {f.version}" for f in installed()}
    names = {name.split("#")[0] for name in experiment.named}
    plugins = {name: found.get(name, "defined in Python") for name in sorted(names)}
    return {"mtl-core": metadata.version("mtl-core"), "torch": torch.__version__, **plugins}


def judge(
    run: Run,
    session: Session,
    fabric: lightning_fabric.Fabric,
    split: str,
    name: str,
    epoch: int,
    panels: int = 4,
    *,
    suffix: str = "",
    overrides: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluate the session's network as it is on one split; write results and pictures.

    :param suffix: of the files, ``resultsSUFFIX.json`` and ``predictionsSUFFIX.png``
    :param overrides: what differs from the run's settings, for the record
    """
    dataset = session.hooks.build_dataset(split)
    if dataset.tasks.names != session.tasks.names:
        dataset = Selected(dataset, session.tasks.names)
    labelled = torch.ones(len(dataset), len(dataset.tasks), dtype=torch.bool)
    labelled = labelled if dataset.labelled is None else dataset.labelled
    places = list(range(len(dataset)))
    loader = evaluation_loader(
        dataset, labelled, places, session.experiment.batch_size, fabric.global_rank, fabric.world_size
    )
    found = evaluate(session.network, loader, fabric.device, fabric.autocast)
    if fabric.is_global_zero:
        about = {
            "name": session.experiment.name,
            "seed": session.experiment.seed,
            "split": split,
            "checkpoint": name,
            "epoch": epoch,
            "level": session.experiment.level if session.hooks.meet_at_the_seam else None,
            "counts_for": list(session.experiment.counts_for),
            "metrics": found,
            "headline": headlines(session.tasks),
            "units": units(session.tasks, found),
            **({"overrides": list(overrides)} if overrides else {}),
        }
        write_text(run.folder / f"results{suffix}.json", to_json(about, indent=2))
        few = places[:: max(1, len(places) // panels)][:panels]
        with fabric.autocast():
            drawn = draw(session, evaluation_loader(dataset, labelled, few, panels), fabric.device)
        run.pictures.mkdir(exist_ok=True)
        drawn.save(run.pictures / f"predictions{suffix}.png")
    return found


@torch.no_grad()
def draw(session: Session, loader: Batches, device: torch.device) -> Image.Image:
    """A sheet of images, predictions and labels per task."""
    (batch,) = list(loader)
    network = session.network
    with evaluating(network):
        step = step_of(session, to_device(batch, device))
    rows = pictures.pairs(session.tasks, batch, {name: views[0] for name, views in step.predictions.items()})
    return pictures.sheet(rows, session.tasks)


@torch.no_grad()
def draw_plugins(run: Run, session: Session, fabric: lightning_fabric.Fabric, panels: int = 4) -> None:
    """A sheet of what each plugin draws of a few training images."""
    if not session.hooks.has("draw_pictures"):
        return
    places = list(range(len(session.dataset)))[:: max(1, len(session.dataset) // panels)][:panels]
    (batch,) = list(evaluation_loader(session.dataset, session.labelled, places, panels))
    modules = [p for p in session.hooks.plugins.values() if isinstance(p, nn.Module)]
    with evaluating(session.network, *modules), fabric.autocast():
        drawn = session.hooks.draw_pictures(step_of(session, to_device(batch, fabric.device)))
    run.pictures.mkdir(exist_ok=True)
    for name, titled in drawn.items():
        pictures.drawings(batch, session.tasks, titled).save(run.pictures / f"{name}.png")


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Modules in evaluation mode, for a while."""
    before = [(module, module.training) for module in modules]
    for module in modules:
        module.eval()
    yield
    for module, training in before:
        module.train(training)


def step_of(session: Session, batch: Batch) -> Step:
    """A step of one view as regularizers see it, of images that nothing augments."""
    network = session.network
    z = network.backbone(as_float(batch.images))
    predictions = network.decode([z] * len(network.tasks))
    losses = sample_losses(network.tasks, predictions, batch.targets, batch.labelled)
    per_task, means, active = task_losses(losses, batch.labelled, session.experiment.normalize)
    views = {name: p[None] for name, p in predictions.items()}
    return Step(
        tasks=network.tasks, images=as_float(batch.images)[None], predictions=views, targets=batch.targets,
        labelled=batch.labelled, features=z, index=batch.index, losses=losses, task_losses=per_task, task_means=means,
        active=active, generator=generator_for(session.experiment.seed, "draw"),
    )  # fmt: skip


def to_device(batch: Batch, device: torch.device) -> Batch:
    targets = {name: target.to(device) for name, target in batch.targets.items()}
    return Batch(batch.images.to(device), targets, batch.labelled.to(device), batch.index.to(device))


def record_runtime(run: Run) -> None:
    """Note the time of all epochs, those before a resume too."""
    if run.results.is_file():
        record = json.loads(run.results.read_text(encoding="utf-8"))
        seconds = sum(epoch["seconds"] for epoch in run.history())
        write_text(run.results, to_json(record | {"runtime_seconds": round(seconds, 1)}, indent=2))


def evaluate_run(
    run: Run, split: str = "test", name: str = "last", overrides: tuple[str, ...] = ()
) -> dict[str, float]:
    """``mtl evaluate``: judge a run's checkpoint on a split.

    Writes ``results.json``, which tables are made of, where it judges what ``mtl train`` judges; else
    ``results-SPLIT-CHECKPOINT.json``, with the overrides in it.

    :param name: ``"last"`` or ``"best"`` (on validation data)
    :param overrides: settings that differ on this machine, such as ``plugins.name.root=…``, or other data
    """
    experiment = load_experiment(run.require().experiment, overrides)
    fabric = make_fabric(experiment)
    fabric.launch()
    path = run.checkpoint(name)
    state = checkpoint.load(path)
    session = session_from(experiment, state, path)
    session.network.to(fabric.device)
    suffix = "" if judges_as_training(run, experiment, split, name) else f"-{split}-{name}"
    found = judge(run, session, fabric, split, name, state["epoch"], suffix=suffix, overrides=overrides)
    if fabric.is_global_zero:
        if not suffix:
            record_runtime(run)
        write_report(run.folder)
    return found


NO_MATTER = ("batch_size", "devices", "nodes", "plugins.*.weights")
"""Settings that do not change what a trained network is worth, beside those of a machine."""


def judges_as_training(run: Run, experiment: Experiment, split: str, name: str) -> bool:
    """Whether this is the last checkpoint on the test split, with the run's own settings."""
    old, new = parse(read_text(run.experiment), str(run.experiment)), parse(dump_experiment(experiment), "")
    return (split, name) == ("test", "last") and not changes.unlike(old, new, NO_MATTER)


def session_from(experiment: Experiment, state: dict[str, object], path: Path) -> Session:
    """Network and data set of a checkpoint, without label mask or training data."""
    from mtl_core.predict import network_from
    from mtl_core.session import open_hooks

    hooks = open_hooks(experiment)
    network, size = network_from(hooks, state, path)
    return Session(experiment, hooks, None, torch.empty(0), network, size)  # type: ignore[arg-type]

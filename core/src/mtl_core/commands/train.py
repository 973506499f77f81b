"""``mtl train``: from an experiment to a finished run folder."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Collection
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import attrs
import lightning_fabric
import torch
from rich.console import Console

from mtl_core.commands.epoch_end import EpochEnd, keeping_warnings
from mtl_core.commands.evaluate import Evaluation, evaluate_split, read_results, record_runtime, write_results
from mtl_core.commands.finished_run import EndedRun, call_after_run
from mtl_core.commands.names import namesake
from mtl_core.commands.observers import open_observers
from mtl_core.console import Monitor, Watcher, is_rank_zero, print_metrics, progress
from mtl_core.discovery import installed_plugins
from mtl_core.errors import CheckpointError, ExperimentError, MtlError, UnusableRun
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder, skipped_steps, to_json, write_text
from mtl_core.settings.diff import MAY_CHANGE, differing
from mtl_core.settings.toml_file import dump_experiment, load_experiment, parse_toml, read_toml
from mtl_core.training.evaluation import headlines
from mtl_core.training.fabric import make_fabric
from mtl_core.training.probe import Probe
from mtl_core.training.run_files import IN_PYTHON, check_files, described, keep_files
from mtl_core.training.session import Session, open_hooks, prepare
from mtl_core.training.trainer import Trainer

_log = logging.getLogger("mtl")


def train(
    experiment: Experiment,
    out: Path | str,
    *,
    resume: bool = False,
    watch: Watcher = lambda epoch, batch, batches: None,
    evaluate_on: str | None = "test",
    probe: int = 0,
) -> RunFolder:
    """Train an experiment and evaluate it.

    :param out: the run's folder
    :param resume: go on where ``out`` stopped; a run that has no checkpoint yet starts from the beginning
    :param watch: called after every batch
    :param evaluate_on: the split that is evaluated at the end (``results.json``, pictures, report); None for none
    :param probe: batches on which every epoch ends with a comparison of the regularizers' gradients with those of the
        withheld labels (:class:`mtl_core.training.probe.Probe`); 0 for none
    :raises MtlError: the folder holds a run already, or nothing to resume; or the experiment cannot be built
    :raises UnusableRun: the run has ended and everything is written, but every step was skipped or metrics are not
        finite
    """
    run = _open_run(experiment, Path(out), resume)
    try:
        fabric = make_fabric(experiment)
        with run.locked() if fabric.is_global_zero else nullcontext():
            _launch(experiment, run, fabric)
            _train_in(run, experiment, fabric, watch, evaluate_on, probe)
    except MtlError as error:
        if experiment.source and experiment.source not in str(error):
            error.add_note(f"experiment {experiment.source}")
        raise
    return run


_LAUNCHED = "MTL_LAUNCHED"
"""In the environment of the processes that Fabric's own launcher starts: their first process called ``before_run``."""


def _launch(experiment: Experiment, run: RunFolder, fabric: lightning_fabric.Fabric) -> None:
    """Call ``before_run``, then start the run's processes, each of which runs this function too."""
    # Fabric starts this program again for every further process, which arrives here too
    if os.environ.pop(_LAUNCHED, None) is None:
        open_hooks(experiment).before_run(experiment, run.folder)
    os.environ[_LAUNCHED] = "1"
    try:
        fabric.launch()
    finally:
        del os.environ[_LAUNCHED]


def _train_in(
    run: RunFolder,
    experiment: Experiment,
    fabric: lightning_fabric.Fabric,
    watch: Watcher,
    evaluate_on: str | None,
    probe: int = 0,
) -> None:
    """Train in a folder that no other process uses."""
    if fabric.is_global_zero:
        run.clear_remains()
    # before another rank looks for the label mask that is removed here
    fabric.barrier()
    with keeping_warnings(run if fabric.is_global_zero else None):
        _train_prepared(_prepare_everywhere(experiment, run, fabric), run, fabric, watch, evaluate_on, probe)


def _train_prepared(
    session: Session,
    run: RunFolder,
    fabric: lightning_fabric.Fabric,
    watch: Watcher,
    evaluate_on: str | None,
    probe: int = 0,
) -> None:
    """Train a session, evaluate its network, write the results and call ``after_run``."""
    experiment = session.experiment
    # a split that is missing is found here, and not when the training is done
    dataset = None if evaluate_on is None else session.hooks.build_dataset(evaluate_on)
    observers = open_observers() if fabric.is_global_zero else None
    trainer = Trainer(session, fabric, run, observers)
    if probe:
        trainer.probe = Probe(session, trainer.step, fabric, probe)
    if run.checkpoint().is_file():
        trainer.resume()
    elif fabric.is_global_zero and run.history():
        _log.warning("%s: there is no checkpoint yet; the run begins again with its first epoch", run.folder)
        run.cut(0)
    if fabric.is_global_zero:
        keep_files(run, experiment)
        write_text(run.experiment, dump_experiment(experiment))
        write_text(run.folder / "versions.json", to_json(_versions(experiment), indent=2))
    if isinstance(watch, Monitor):
        watch.begin(headlines(session.tasks))
    trainer.fit(watch, EpochEnd(session, run, watch, observers))
    session.network = trainer.evaluated
    evaluation = None if evaluate_on is None else evaluate_split(session, fabric, evaluate_on, dataset)
    unusable: list[str] = fabric.broadcast(_unusable_because(run, evaluation) if fabric.is_global_zero else [])
    if fabric.is_global_zero:
        if not unusable and (skipped := skipped_steps(run)) and _skipped_before(run):
            _log.warning(skipped)
        if evaluation is not None:
            evaluation = attrs.evolve(evaluation, problems=unusable)
            write_results(run.results, session, evaluation, "last", trainer.position.epoch)
        record_runtime(run)
        shown = (None, "", {}) if evaluation is None else (evaluation.data, "", evaluation.images)
        call_after_run(EndedRun(run.folder, session, fabric, *shown))
    # A rank that ends while rank 0 still writes makes the launcher stop rank 0.
    fabric.barrier()
    if unusable:
        raise UnusableRun(f"{run.folder}: the run has ended, but its numbers cannot be used: {'; '.join(unusable)}")


def _skipped_before(run: RunFolder) -> bool:
    """Whether an epoch before the last skipped steps: only the first that does is reported when it ends."""
    return any(round(record.get("skipped_steps") or 0) for record in run.history()[:-1])


def _unusable_because(run: RunFolder, evaluation: Evaluation | None) -> list[str]:
    """Why nobody should use the numbers of a run that has ended, a sentence each."""
    problems = [] if evaluation is None else list(evaluation.problems)
    taken, skipped = run.steps()
    if skipped and not taken:
        problems.insert(0, f"all of its {skipped} steps were skipped, their gradients were not finite")
    return problems


def _open_run(experiment: Experiment, out: Path, resume: bool) -> RunFolder:
    """Refuse to overwrite a run, or to resume another experiment than the folder's."""
    run = RunFolder(out)
    if not run.experiment.is_file():
        if run.checkpoint().is_file() and not resume:
            raise CheckpointError(
                f"{run.checkpoint()}: weights of a run whose {run.experiment.name} is missing; put it back to go on"
                " with --resume, or choose another --out"
            )
        check_files(run, experiment)
        return run
    if not resume:
        raise MtlError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    check_files(run, experiment)
    changed = _changed(run, experiment)
    if changed:
        raise CheckpointError(
            f"{out}: this run was started with other settings ({'; '.join(changed)}); resume it with its own"
            f" {run.experiment.name}, or choose another --out"
        )
    return run


def _changed(run: RunFolder, experiment: Experiment) -> list[str]:
    """Settings of the folder's run that differ from the experiment's and may not."""
    try:
        return differences(load_experiment(run.experiment), experiment)
    except ExperimentError:
        # A plugin that was defined in Python cannot be made from a file: compare what both have written down.
        old = parse_toml(read_toml(run.experiment), str(run.experiment))
        new = dump_experiment(experiment)
        return differing(old, parse_toml(new, experiment.name))


def differences(before: Experiment, after: Experiment, free: Collection[str] = MAY_CHANGE) -> list[str]:
    """Settings that differ and may not in a resume, each with both values.

    :param free: settings that may, as :func:`mtl_core.differing` takes them
    """
    old, new = (parse_toml(dump_experiment(e), e.name) for e in (before, after))
    return differing(old, new, free)


def _prepare_everywhere(experiment: Experiment, run: RunFolder, fabric: lightning_fabric.Fabric) -> Session:
    """Rank 0 draws and saves the label mask, the others read it; rank 0 reports what it cannot build."""
    session = None
    mistake = None
    if fabric.is_global_zero:
        try:
            session = prepare(experiment, run)
        except MtlError as error:
            mistake = error
    # everybody learns of it: a rank that waited for rank 0 would wait until the timeout
    if fabric.broadcast(mistake is not None):
        raise mistake or SystemExit(2)
    return session or prepare(experiment, run)


def _versions(experiment: Experiment) -> dict[str, str]:
    """Version of core, torch and every plugin's distribution."""
    found = {f.name: f"{f.distribution} {f.version}" for f in installed_plugins()}
    names = {name.split("#")[0] for name in experiment.named}
    plugins = {name: found.get(name, IN_PYTHON) for name in sorted(names)} | described(experiment)
    own = {"mtl-core": metadata.version("mtl-core"), "torch": torch.__version__, "python": platform.python_version()}
    commit = _commit_of(Path(experiment.source).parent)
    return {**own, **({"commit": commit} if commit else {}), **plugins}


def _commit_of(folder: Path) -> str:
    """The commit that is checked out where the experiment lies, with a note on changes; empty without git."""
    try:
        asked = [
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{asked[0]} with changes" if asked[1] else asked[0]


def train_and_print(experiment: Experiment, folder: Path, resume: bool, quiet: bool) -> None:
    """Train an experiment with a progress bar; rank 0 prints its metrics."""
    if not resume and is_rank_zero() and (warning := namesake(experiment, folder)):
        _log.warning(warning)
    with progress(experiment, quiet) as watch:
        run = train(experiment, folder, resume=resume, watch=watch)
    if not is_rank_zero():
        return
    print_metrics(read_results(run)["metrics"], f"{experiment.name}: test, last epoch")
    report = run.folder / "report.html"
    lines = [f"run folder  {run.folder}", *([f"report      {report}"] if report.is_file() else [])]
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

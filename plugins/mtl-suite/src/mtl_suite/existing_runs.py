"""The runs that a folder has already, compared with those of a suite. Imports no torch.

A run of other settings is neither reported as the one that was asked for nor trained further.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtl_core import CheckpointError, RunFolder, differing, dump_experiment, parse_experiment, parse_toml, read_toml
from mtl_suite.jobs import Job, evaluated_epochs


def check_runs(jobs: Sequence[Job]) -> None:
    """Compare the runs that are there with the jobs.

    :raises CheckpointError: with every setting that differs, its old and new value, and the runs
    """
    found: dict[str, list[Path]] = {}
    for job in jobs:
        for change in _objections(job):
            found.setdefault(change, []).append(job.folder)
    if found:
        listed = [f"{folders[0]}{_more(len(folders) - 1)}: {change}" for change, folders in found.items()]
        head = "these runs have other settings than are asked for; choose another --out, or set what differs as it was:"
        raise CheckpointError("\n  ".join([head, *listed]))


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


def _objections(job: Job) -> list[str]:
    """What keeps a run folder from being the job's."""
    run = RunFolder(job.folder)
    if not run.experiment.is_file():
        return []
    before = read_toml(run.experiment)
    trained = max(evaluated_epochs(run), _epochs_of(run, before, job.epochs))
    return [
        *([f"epochs: {trained} are trained, now {job.epochs}"] if trained > job.epochs else []),
        *_differences(before, job.text, str(run.experiment)),
    ]


def _epochs_of(run: RunFolder, before: str, asked: int) -> int:
    """Epochs trained so far, where they may be more than those asked for."""
    return len(run.history()) if parse_toml(before, str(run.experiment)).get("epochs", 0) > asked else 0


def _differences(before: str, after: str, source: str) -> list[str]:
    """Settings that keep a run from being resumed; one that ``before`` lacks counts as its default."""
    if parse_toml(before, source) == parse_toml(after, source):
        return []
    made = [parse_experiment(text, source, folder=Path(source).parent) for text in (before, after)]
    return differing(*(parse_toml(dump_experiment(one), source) for one in made))

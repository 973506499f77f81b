"""Plugins in plain files, as a run folder keeps them: copied beside its ``experiment.toml``, with their hashes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mtl_core.errors import CheckpointError, ExperimentError
from mtl_core.experiment import Experiment
from mtl_core.hooks.plain_file import Origin, origins
from mtl_core.run_folder import RunFolder, write_atomically
from mtl_core.settings.toml_file import load_experiment

_log = logging.getLogger("mtl")

IN_PYTHON = "defined in Python"
"""What ``versions.json`` says of a plugin of no distribution and no file."""


def described(experiment: Experiment) -> dict[str, str]:
    """Name of a plugin in a plain file → the file's name and hash, for ``versions.json``."""
    return {name.partition("#")[0]: _described(file) for name, file in origins(experiment.plugins).items()}


def _described(file: Origin) -> str:
    return f"{file.path.name} sha256 {file.digest}"


def keep_files(run: RunFolder, experiment: Experiment) -> None:
    """Copy the files into the run folder."""
    for file in origins(experiment.plugins).values():
        kept = run.folder / file.path.name
        text = file.text
        if kept.resolve() != file.path:
            write_atomically(kept, lambda part, text=text: part.write_bytes(text))  # type: ignore[misc]


def check_files(run: RunFolder, experiment: Experiment) -> None:
    """Refuse to go on with other code than the run began with, or to overwrite a file that is none of the run's.

    :raises CheckpointError: it says which file, and what to do
    """
    if run.experiment.is_file():
        for file in _changed_files(run, experiment):
            raise CheckpointError(f"{file.path}: {_remedy(run, file)}")
        return
    for file in origins(experiment.plugins).values():
        kept = run.folder / file.path.name
        if kept.is_file() and kept.read_bytes() != file.text:
            raise CheckpointError(
                f"{kept}: differs from {file.path}, which the run would copy here; choose another --out"
            )


def _changed_files(run: RunFolder, experiment: Experiment) -> list[Origin]:
    """The files that are no longer what the run's ``versions.json`` says."""
    known = _read_versions(run)
    now = described(experiment)
    files = origins(experiment.plugins)
    names = {name.partition("#")[0]: file for name, file in files.items()}
    return [names[name] for name, text in now.items() if " sha256 " in known.get(name, "") and known[name] != text]


def _remedy(run: RunFolder, file: Origin) -> str:
    kept = run.folder / file.path.name
    if kept.resolve() == file.path:
        return "the run's copy of a plugin has changed since it began; put it back, or choose another --out"
    return (
        "has changed since this run began, which would go on with other code; put the former text back, go on with"
        f" the run's own copy (mtl train {run.experiment} --out {run.folder} --resume), or choose another --out"
    )


def _read_versions(run: RunFolder) -> dict[str, str]:
    """What ``versions.json`` says of each plugin; nothing where it is missing or damaged."""
    try:
        found = json.loads((run.folder / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def load_run(run: RunFolder, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a run folder; a copy of a plugin that was changed is reported.

    :raises ExperimentError: it cannot be made, such as of plugins that were defined in Python
    """
    with _explaining(run):
        experiment = load_experiment(run.require().experiment, overrides)
    for file in _changed_files(run, experiment):
        _log.warning("%s: this file has changed since the run was trained with it", file.path)
    return experiment


@contextmanager
def _explaining(run: RunFolder) -> Iterator[None]:
    """Add a note on plugins that were defined in Python, which no folder can restore."""
    try:
        yield
    except ExperimentError as error:
        if names := [name for name, version in _read_versions(run).items() if version == IN_PYTHON]:
            error.add_note(
                f"{', '.join(names)}: defined in Python; give the experiment in Python:"
                " train(experiment, folder, resume=True), evaluate_run(run, experiment=…)"
            )
        raise

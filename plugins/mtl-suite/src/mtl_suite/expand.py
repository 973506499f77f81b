"""From the rows of a suite to its runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from mtl_core import (
    ExperimentError,
    anchor_files,
    dump_experiment,
    installed_plugins,
    merged,
    nearest,
    parse_experiment,
    parse_toml,
    read_document,
    short_name,
    split_key,
)
from mtl_suite.documents import Document, put
from mtl_suite.jobs import Job
from mtl_suite.schema import Entry
from mtl_suite.sets import Kind, for_task

if TYPE_CHECKING:
    from mtl_suite.plan import Suite


def expanded(
    suite: Suite,
    defaults: Document,
    scenarios: Mapping[str, Document],
    rows: Mapping[str, Document],
    sets: Sequence[str],
) -> Iterator[Job]:
    """Every run, all rows of the first seed before those of the next.

    :param sets: ``KEY=VALUE`` for every experiment that has the key's plugin
    """
    found = installed_plugins()
    for seed, scenario, (name, entry) in itertools.product(
        suite.settings.seeds, suite.scenarios, suite.entries.items()
    ):
        if entry.only and scenario not in entry.only:
            continue
        base = merged(defaults, _from_file(suite, entry), scenarios.get(scenario, {}), rows[name])
        for label, document in _variations(entry, base):
            document |= {"name": name, "seed": seed}
            own = [override for override in sets if _concerns(override, document)]
            source = f"{suite.source}: experiments.{name}"
            experiment = parse_experiment(tomlkit.dumps(document), source, own, found)
            whole = dump_experiment(experiment, anchored=True)
            for task in entry.each_task or entry.each_primary or ("",):
                part = "/".join(filter(None, (label, task)))
                folder = suite.folder / scenario / f"{name}-{seed}" / part
                _check_inside(folder, suite)
                yield Job(name, scenario, seed, part, folder, _text_for(whole, entry, task), experiment.epochs)


def _check_inside(folder: Path, suite: Suite) -> None:
    """Refuse names that lead out of the suite's folder.

    :raises ExperimentError: they do
    """
    if not folder.resolve().is_relative_to(suite.folder.resolve()):
        raise ExperimentError(
            str(suite.source),
            [f"{folder}: lies outside {suite.folder}; names of scenarios and values of `vary` name folders below it"],
        )


def _text_for(text: str, entry: Entry, task: str) -> str:
    """The experiment of one task's part of a row."""
    if not task:
        return text
    kind: Kind = "task" if entry.each_task else "primary"
    return tomlkit.dumps(for_task(parse_toml(text, task), kind, task))


def _from_file(suite: Suite, entry: Entry) -> Document:
    if entry.file is None:
        return {}
    path = suite.source.parent / entry.file
    return anchor_files(read_document(path), path.parent)


def _variations(entry: Entry, base: Document) -> Iterator[tuple[str, Document]]:
    """The experiments that ``vary`` makes of one row: (what distinguishes them, the document)."""
    for values in itertools.product(*entry.vary.values()):
        chosen = dict(zip(entry.vary, values, strict=True))
        document = deepcopy(base)
        for key, value in chosen.items():
            put(document, key, value)
        yield ",".join(_variation(key, value) for key, value in chosen.items()), document


def _variation(key: str, value: object) -> str:
    """A varied setting in the name of a folder, such as ``learning_rate=0.1``."""
    return f"{key.split('.')[-1]}={_folder_name(value)}"


def _folder_name(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _concerns(override: str, document: Mapping[str, Any]) -> bool:
    """Whether an experiment has the plugin that an override names; what names none concerns all."""
    steps = split_key(override.partition("=")[0])
    names = set(document.get("plugins", {}))
    return steps[0] != "plugins" or len(steps) < 2 or steps[1] in names | set(map(short_name, names))


def check_overrides(suite: Suite, overrides: Sequence[str]) -> None:
    documents = [parse_toml(job.text, job.row) for job in suite.jobs]
    known = sorted({name for document in documents for name in document["plugins"]})
    for override in overrides:
        if not any(_concerns(override, document) for document in documents):
            name = split_key(override.partition("=")[0])[1]
            found = nearest(name, known) or f" (they have: {', '.join(known)})"
            raise ExperimentError(str(suite.source), [f'--set {override}: no experiment has a plugin "{name}"{found}'])

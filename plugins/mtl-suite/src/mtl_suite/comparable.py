"""Whether runs can stand in one table. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_core import CheckpointError, MtlError, RunFolder, nearest, parse_toml, read_toml, unlike

if TYPE_CHECKING:
    from mtl_suite.result import Result


def check_settings(results: Sequence[Result]) -> None:
    """Runs of one name, of the parts of a set those that count for the same tasks, are seeds of one experiment."""
    first: dict[tuple[str, tuple[str, ...]], Result] = {}
    for result in results:
        before = first.setdefault((result.name, result.counts_for), result)
        if before.folder != result.folder and (changed := _other_settings(before.folder, result.folder)):
            raise CheckpointError(
                f'{result.folder}: has the name "{result.name}" of {before.folder}, but {"; ".join(changed)};'
                f" give it a name of its own: --label {result.folder}=NAME, or name = … before it is trained"
            )


def _other_settings(first: Path, second: Path) -> list[str]:
    """The settings in which two runs differ, the seed left out."""
    return unlike(_settings_of(first), _settings_of(second), ("seed",))


def _settings_of(folder: Path) -> dict[str, Any]:
    path = RunFolder(folder).experiment
    return parse_toml(read_toml(path), str(path))


def check_metrics(metrics: Sequence[str], results: Sequence[Result]) -> None:
    """Every metric is one of a task of the runs.

    :raises MtlError: with the nearest name
    """
    known: dict[str, None] = {}
    for result in results:
        known |= dict.fromkeys(result.metrics)
    tasks = {name.partition("/")[0] for name in known}
    for metric in metrics:
        if "/" not in metric or metric.partition("/")[0] not in tasks:
            guess = next((f'; did you mean "{n}"?' for n in known if n.endswith(f"/{metric}")), nearest(metric, known))
            raise MtlError(f'metric "{metric}": expected TASK/METRIC of the runs{guess} (they have {", ".join(known)})')


def check_seeds(results: Sequence[Result]) -> None:
    """Two runs of one name and one seed are not two seeds."""
    seen: dict[tuple[str, int], Path] = {}
    for result in results:
        before = seen.setdefault((result.name, result.seed), result.folder)
        if before != result.folder:
            raise same_twice(result, before)


def same_twice(result: Result, before: Path) -> CheckpointError:
    return CheckpointError(
        f'{result.folder}: has the name "{result.name}" and the seed {result.seed} of {before}; runs with other'
        f" settings need names of their own: --label {result.folder}=NAME, or name = … before they are trained"
    )


def check_comparable(first: Result, other: Result) -> None:
    """Both have the same tasks, and were evaluated on the same split with the same checkpoint."""
    if other.headline.items() != first.headline.items():
        raise CheckpointError(
            f"{other.folder}: metrics {', '.join(other.headline)}; the reference {first.folder} has"
            f" {', '.join(first.headline)}; compare runs with the same tasks"
        )
    if other.evaluated_on != first.evaluated_on:
        advised = [f"`mtl evaluate {r.folder}`" for r in (first, other) if r.evaluated_on != ("test", "last")]
        own = " split, checkpoint ".join(other.evaluated_on)
        reference = " split, checkpoint ".join(first.evaluated_on)
        raise CheckpointError(
            f"{other.folder}: evaluated on the {own}, the reference"
            f" {first.folder} on the {reference}; run {' and '.join(advised)}, which"
            " evaluates the last checkpoint on the test split as `mtl train` does"
        )

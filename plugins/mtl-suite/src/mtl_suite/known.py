"""Whether the metrics that a suite names exist: asked of its data sets, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mtl_core import (
    Experiment,
    ExperimentError,
    Tasks,
    metric_names,
    nearest,
    open_hooks,
    options_of,
    parse_experiment,
    parse_toml,
)
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite


def check_metrics(suite: Suite) -> None:
    """Look for ``metrics`` among those of any run, for ``choose_on`` among those of its row's.

    :raises ExperimentError: with every name that no run has
    """
    first = [job for job in suite.jobs if job.seed == suite.settings.seeds[0]]
    data = _DataSets()
    problems = data.check("metrics", suite.settings.metrics, first)
    for name, entry in suite.entries.items():
        if entry.choose_on is not None:
            row = [job for job in first if job.row == name]
            key = f"experiments.{name}.choose_on"
            problems += data.check(key, [entry.choose_on], row) or _check_validation(key, row)
    if problems:
        raise ExperimentError(str(suite.source), problems)


def _check_validation(key: str, row: Sequence[Job]) -> list[str]:
    without = [job for job in row if not parse_toml(job.text, job.title)["validation"]]
    return [f"{key}: needs validation data; set validation above 0"] if without else []


@attrs.define
class _DataSets:
    """The tasks of each data set, which is opened once."""

    opened: dict[str, Tasks] = attrs.field(factory=dict)

    def check(self, key: str, wanted: Sequence[str], jobs: Sequence[Job]) -> list[str]:
        """What is wrong with names; nothing where a data set cannot be opened, which might have them."""
        left = list(wanted)
        known = dict[str, None]()
        for job in jobs if wanted else ():
            names = self.metrics(job)
            if names is None:
                return []
            known |= dict.fromkeys(names)
            left = [name for name in left if name not in known]
            if not left:
                break
        return [f'{key}: no metric "{n}"{nearest(n, known)} (there are: {", ".join(known)})' for n in left]

    def metrics(self, job: Job) -> list[str] | None:
        """``task/metric`` of everything that a run will give."""
        experiment = parse_experiment(job.text, job.title)
        try:
            names = metric_names(self.tasks(experiment))
        except Exception:  # a plugin's, of any kind: its data may be where the job runs, which says it if they are not
            return None
        return [name for name in names if not experiment.tasks or name.partition("/")[0] in experiment.tasks]

    def tasks(self, experiment: Experiment) -> Tasks:
        hooks = open_hooks(experiment)
        name = hooks.places["build_dataset"]
        key = f"{name} {options_of(experiment.plugins[name])}"
        if key not in self.opened:
            self.opened[key] = hooks.build_dataset("train").tasks
        return self.opened[key]

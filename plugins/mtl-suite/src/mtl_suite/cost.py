"""What a suite will cost: a few training steps of each of its experiments, each in a process of its own.

A measurement is a run that stops after some steps: data, augmentation, plugins and optimizer are those of the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import attrs

from mtl_core import MtlError, open_hooks, parse_experiment, plain_json, write_text
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite

_WARM_UP = 2
"""Steps before the clock starts: kernels are chosen, memory is found."""

_PATIENCE = 30.0
"""Seconds after which a measurement stops, with at least one step timed."""

_Tell = Callable[[str], None]


@attrs.frozen
class Measured:
    """What a step of one experiment takes.

    :param seconds: of a step
    :param steps: of an epoch
    :param peak_mib: peak memory, that of the device on CUDA, else of the process
    """

    seconds: float
    steps: int
    peak_mib: float


@attrs.frozen
class Estimate:
    """What the runs of one row in one scenario take.

    :param runs: all, and those that are not finished
    :param hours: of all of them, and of those that are not finished; None where nothing could be measured
    :param measured: of the part that takes the most memory
    :param note: what was not measured, and why
    """

    scenario: str
    row: str
    runs: tuple[int, int]
    hours: tuple[float, float] | None
    measured: Measured | None
    note: str = ""


class _EnoughError(Exception):
    """Ends a run whose steps were measured."""


class _Clock:
    """Watches a run, and ends it when enough steps were timed."""

    def __init__(self, count: int, synchronize: Callable[[], object]) -> None:
        self.count = count
        self.synchronize = synchronize
        self.seen = 0
        self.started_at = 0
        self.steps = 0
        self.begun = 0.0
        self.seconds = 0.0

    def __call__(self, epoch: int, batch: int, batches: int) -> None:
        self.seen += 1
        self.steps = batches
        if self.seen > 1 and self._has_enough():
            self.synchronize()
            self.seconds = (time.perf_counter() - self.begun) / (self.seen - self.started_at)
            raise _EnoughError
        if self.seen in (1, _WARM_UP):  # from the first step, lest very slow ones be waited for twice
            self.synchronize()
            self.begun = time.perf_counter()
            self.started_at = self.seen

    def _has_enough(self) -> bool:
        warm = self.started_at == _WARM_UP
        return time.perf_counter() - self.begun > _PATIENCE or (warm and self.seen - self.started_at >= self.count)


def measure(text: str, title: str, threads: int, count: int) -> Measured | str:
    """Train some steps of an experiment in this process, which should be a fresh one.

    :param text: the experiment as TOML
    :param count: steps that are timed
    :return: what they took, or what a user has to correct
    """
    import torch

    from mtl_core import make_fabric, train

    torch.set_num_threads(threads)
    experiment = parse_experiment(text, title)
    experiment.epochs = max(experiment.epochs, _WARM_UP + count)  # however short an epoch is
    try:
        on_cuda = make_fabric(experiment).device.type == "cuda"
        clock = _Clock(count, torch.cuda.synchronize if on_cuda else lambda: None)
        with tempfile.TemporaryDirectory() as folder:
            train(experiment, Path(folder) / "run", watch=clock, evaluate_on=None)
    except _EnoughError:
        peak = torch.cuda.max_memory_allocated() / 2**20 if on_cuda else peak_resident()
        return Measured(clock.seconds, clock.steps, peak)
    except (MtlError, torch.OutOfMemoryError) as error:
        return str(error).splitlines()[0]
    raise AssertionError("a run ended before its steps were measured")


def peak_resident() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage gives on Linux is inherited from the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure_apart(job: Job, threads: int, count: int) -> Measured | str:
    """:func:`measure` in a fresh process, whose peak memory is the job's alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, job.text, job.title, threads, count).result()
        except BrokenProcessPool:
            return "the process was killed (out of memory?)"


def estimate(suite: Suite, device: str, count: int, tell: _Tell = lambda line: None) -> list[Estimate]:
    """What the runs of every row take, by a few steps of it; what was measured before is not measured again.

    :param device: what the steps run on, which a measurement is remembered with
    :param tell: called with a line before each measurement
    :raises MtlError: steps of an experiment failed; it names each
    """
    known = _Known(suite.folder / "cost.json", f"{device}, {suite.engine.cpus} threads")
    failed: list[str] = []
    made: list[Estimate] = []
    for jobs in _rows_of(suite):
        found: dict[str, Measured] = {}
        note = unmeasurable(jobs[0])
        for job in [] if note else measured_parts(suite, jobs):
            result = known.get(job.text)
            if result is None:
                tell(f"{job.title}: measuring")
                result = measure_apart(job, suite.engine.cpus, count)
            if isinstance(result, str):
                failed.append(f"{job.title}: {result}")
            else:
                found[job.part] = result
                known.put(job.text, result)
        made.append(_estimated(jobs, found, note))
    if failed:
        raise MtlError("\n  ".join([f"{suite.source}: the steps of {len(failed)} runs cannot be trained:", *failed]))
    return made


def _rows_of(suite: Suite) -> Iterator[list[Job]]:
    """The runs of each row in each scenario that has it."""
    for scenario in suite.scenarios:
        for row in suite.entries:
            jobs = [job for job in suite.jobs if (job.scenario, job.row) == (scenario, row)]
            if jobs:
                yield jobs


def measured_parts(suite: Suite, jobs: Sequence[Job]) -> list[Job]:
    """Of a row's runs those that differ in cost: single tasks; other primaries and varied values cost the same."""
    first = [job for job in jobs if job.seed == jobs[0].seed]
    return first if suite.entries[jobs[0].row].each_task else first[:1]


def unmeasurable(job: Job) -> str:
    """Why a run cannot be measured by its steps alone, or an empty string."""
    experiment = parse_experiment(job.text, job.title)
    if experiment.devices * experiment.nodes > 1:
        return "several devices"
    hooks = open_hooks(experiment)
    before = [name for name, _ in hooks.implementations("before_run")]
    return f"plugin {', '.join(before)} works before the run begins" if before else ""


def _estimated(jobs: Sequence[Job], found: dict[str, Measured], note: str) -> Estimate:
    """The estimate of one row.

    :param found: part → what its steps take; empty where they could not be measured
    :param note: why they could not
    """
    left = [job for job in jobs if not job.done]
    runs = len(jobs), len(left)
    if not found:
        return Estimate(jobs[0].scenario, jobs[0].row, runs, None, None, note)
    everything = sum(_hours_of(job, found) for job in jobs)
    still = sum(_hours_of(job, found) for job in left)
    largest = max(found.values(), key=lambda measured: measured.peak_mib)
    return Estimate(jobs[0].scenario, jobs[0].row, runs, (everything, still), largest, note)


def _hours_of(job: Job, found: dict[str, Measured]) -> float:
    measured = found.get(job.part) or next(iter(found.values()))
    return measured.seconds * measured.steps * job.epochs / 3600


class _Known:
    """Measurements of earlier calls, in a file beside the runs."""

    def __init__(self, path: Path, where: str) -> None:
        self.path = path
        self.where = where
        self.values: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # none yet, or a damaged file: measured anew
            self.values = dict(json.loads(path.read_text(encoding="utf-8")))

    def key(self, text: str) -> str:
        return hashlib.sha256(f"{self.where}\n{text}".encode()).hexdigest()[:16]

    def get(self, text: str) -> Measured | str | None:
        value = self.values.get(self.key(text))
        try:
            return None if value is None else Measured(value["seconds"], value["steps"], value["peak_mib"])
        except (KeyError, TypeError):
            return None

    def put(self, text: str, measured: Measured) -> None:
        self.values[self.key(text)] = {"where": self.where, **attrs.asdict(measured)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(plain_json(self.values), indent=2))

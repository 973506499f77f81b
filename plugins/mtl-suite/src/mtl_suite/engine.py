"""Running the jobs of a suite with submitit: processes on this machine, or a Slurm cluster.

The run folders are the only state: finished runs are left alone, stopped ones are resumed.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import submitit
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from mtl_core import MtlError, RunFolder, parse_experiment
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite
from mtl_suite.schema import Engine

_POLL = 0.5
_STOPPING = 20.0
"""Seconds that processes have to end in when their suite is stopped."""

_Report = Callable[[Job, str], None]
"""Called with a job and what became of it: "started", "done", or what went wrong."""


@attrs.define
class Process:
    """What a job's process does; submitit queues it again where its time limit stopped it."""

    job: Job
    threads: int
    gpus: str | None = None
    """What ``CUDA_VISIBLE_DEVICES`` is to be; None leaves it as the cluster set it."""

    def __call__(self) -> str | None:
        """Train; a mistake of the user's is returned as its message."""
        if self.gpus is not None:  # submitit hides every GPU from local processes that did not ask for one by number
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        import torch

        from mtl_core import progress, train

        torch.set_num_threads(self.threads)
        experiment = parse_experiment(self.job.text, self.job.title)
        if experiment.devices * experiment.nodes > 1:
            TorchDistributedEnvironment().export()
        try:
            with progress(experiment) as watch:  # the job's log gets a line for each epoch
                train(experiment, self.job.folder, resume=True, watch=watch)
        except MtlError as error:
            return str(error)
        return None

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


def run_suite(suite: Suite, report: _Report = lambda job, what: None) -> dict[str, str]:
    """Run every job that is not finished.

    :param report: called with what became of each job
    :return: title of a job that failed → why; started again, the suite tries it again
    :raises ExperimentError: the suite names metrics that its data sets do not have; nothing was started
    """
    left = [job for job in suite.jobs if not job.done]
    if left:
        from mtl_suite.known import check_metrics  # torch: only where something is trained

        check_metrics(suite)
    held = [job for job in left if RunFolder(job.folder).is_locked()]
    for job in held:
        report(job, "left alone: another process is training it")
    ready = [job for job in left if job not in held]
    window = Window(suite, ready)
    try:
        failed = _wait(window, report)
    except BaseException:
        window.stop()
        raise
    return failed | {job.title: "left alone: another process is training it" for job in held}


class Window:
    """Jobs handed to submitit: on Slurm all at once (the cluster keeps the limit), here ``parallel`` at a time."""

    def __init__(self, suite: Suite, jobs: Sequence[Job]) -> None:
        self.engine = suite.engine
        self.waiting = list(jobs)
        self.running = list[tuple[Job, Any]]()
        self.logs = suite.folder / "logs"
        self.shares: dict[Job, list[str]] = {}
        self.limit = self.engine.parallel if self.engine.cluster == "local" else len(self.waiting)

    def fill(self) -> list[Job]:
        """Submit as many as there is room for."""
        count = min(len(self.waiting), self.limit - len(self.running))
        started = self.waiting[:count]
        self.waiting = self.waiting[count:]
        for kind in dict.fromkeys(map(_shape, started)):
            same_shape = [job for job in started if _shape(job) == kind]
            devices, _ = kind
            processes = [Process(job, self.engine.cpus, self._share(job, devices)) for job in same_shape]
            handles = _submitted(executor(self.engine, self.logs, kind), processes)
            self.running += zip(same_shape, handles, strict=True)
        return started

    def _share(self, job: Job, devices: int) -> str | None:
        """The GPUs of a local process: as many as it has devices, those that the fewest others use."""
        if self.engine.cluster != "local":
            return None
        busy = Counter[str]()
        for share in self.shares.values():
            busy.update(share)
        usable = visible_gpus()[: self.engine.gpus or None]
        self.shares[job] = sorted(usable, key=lambda gpu: busy[gpu])[:devices]
        return ",".join(self.shares[job])

    def stop(self) -> None:
        """End the local processes with their suite; what a cluster runs goes on, as its queue expects."""
        if self.engine.cluster != "local":
            return
        for _, handle in self.running:
            handle.cancel(check=False)
        # the processes write their last checkpoint state away and go; a second signal ends those that hang
        end = time.monotonic() + _STOPPING
        while time.monotonic() < end and not all(handle.done() for _, handle in self.running):
            time.sleep(_POLL)
        for _, handle in self.running:
            if not handle.done():
                handle._process.kill()

    def ended(self) -> list[tuple[Job, Any]]:
        found = [(job, handle) for job, handle in self.running if handle.done()]
        self.running = [pair for pair in self.running if pair not in found]
        for job, _ in found:
            self.shares.pop(job, None)
        return found


def visible_gpus() -> list[str]:
    """The CUDA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def _shape(job: Job) -> tuple[int, int]:
    """(devices per machine, machines) of a job."""
    experiment = parse_experiment(job.text, job.title)
    return experiment.devices, experiment.nodes


def executor(engine: Engine, logs: Any, kind: tuple[int, int]) -> Any:
    try:
        made = submitit.AutoExecutor(folder=logs, cluster=engine.cluster)
    except RuntimeError as error:
        raise MtlError(
            f'engine.cluster = "{engine.cluster}": {error} Use cluster = "local", or start it there'
        ) from error
    devices, nodes = kind
    made.update_parameters(
        name="mtl", timeout_min=max(1, round(engine.hours * 60)), tasks_per_node=devices, nodes=nodes,
        cpus_per_task=engine.cpus, gpus_per_node=engine.gpus,
    )  # fmt: skip
    if engine.cluster == "slurm":
        extra = {"slurm_partition": engine.partition, "slurm_mem": _gigabytes(engine.memory_gb)}
        made.update_parameters(
            slurm_array_parallelism=engine.parallel, **{k: v for k, v in extra.items() if v is not None}
        )
    return made


def _submitted(executor: Any, processes: Sequence[Process]) -> list[Any]:
    """One handle per process; on Slurm they become one job array."""
    with executor.batch():
        return [executor.submit(process) for process in processes]


def _gigabytes(memory: float | None) -> str | None:
    return None if memory is None else f"{round(memory * 1024)}MB"


def _wait(window: Window, report: _Report) -> dict[str, str]:
    failed: dict[str, str] = {}
    while window.waiting or window.running:
        for job in window.fill():
            report(job, "started")
        for job, handle in window.ended():
            problem = _outcome(handle)
            report(job, problem or "done")
            if problem:
                failed[job.title] = problem
        time.sleep(_POLL)
    return failed


def _outcome(handle: Any) -> str | None:
    """Why a job failed, or None."""
    try:
        problems = [problem for problem in handle.results() if problem]
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
        return f"{reason(str(error))} (log: {handle.paths.stderr})"
    return problems[0] if problems else None


def reason(message: str) -> str:
    """The exception in submitit's message, which ends with the paths of its logs; without one, the first line."""
    lines = message.strip().splitlines() or ["no message"]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return raised[-1] if raised else lines[0]

"""Two processes equal one on the same global batch, with tasks absent on one rank and on both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_consistency import Consistency
from mtl_core import Experiment
from mtl_core.data import Batch, Loadable, collate
from mtl_core.look_ahead import LookAhead
from mtl_core.loop import views
from mtl_core.session import prepare
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training import Level, TrainingStep
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_mtpsl import MTPSL
from mtl_torchjd import TorchJD
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.nash import NashMTL
from mtl_weighting.rlw import RLW
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

METHODS = ("plain", "ial", "jtr-ial", "ial-parameters", "mtpsl", "consistency", "auto-lambda", "ol-aux",
           "uw", "dwa", "rlw", "uw-so", "atw", "miraliev", "gradnorm", "imtl", "nash", "gcs",
           "torchjd-MGDA", "torchjd-PCGrad", "torchjd-UPGrad", "torchjd-GradVac", "torchjd-PCD", "torchjd-parameters",
           "torchjd-UW", "torchjd-DWA", "torchjd-FAMO", "torchjd-STCH")  # fmt: skip
# rows of the global batch of 4: rank 0 has the first two. Absent on no rank, on one, on both.
LABELS = {
    "all": [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "one-rank": [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]],
    "both": [[0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]],
}


TORCHJD = {
    **{f"torchjd-{name}": [TorchJD(aggregator=name)] for name in ("MGDA", "PCGrad", "UPGrad", "GradVac", "PCD")},
    **{f"torchjd-{name}": [TorchJD(scalarizer=name)] for name in ("UW", "DWA", "FAMO")},
    "torchjd-STCH": [TorchJD(scalarizer="STCH", settings={"mu": 0.5})],
    "torchjd-parameters": [TorchJD(aggregator="UPGrad")],
}


def plugins(method: str) -> list[object]:
    jtr, ial = JTR(), IAL(primary="segmentation", sigma_learning_rate=1e-2)
    return {"plain": [], "ial": [ial], "jtr-ial": [jtr, ial], "ial-parameters": [ial],
            "mtpsl": [MTPSL()], "consistency": [Consistency()],
            "auto-lambda": [AutoLambda(weight_learning_rate=0.05)],
            "ol-aux": [OLAUX(primary="depth", steps=1, beta=1.0)],
            "uw": [UW()], "dwa": [DWA()], "rlw": [RLW()], "uw-so": [UWSO()], "atw": [ATW(short=2)],
            "miraliev": [Miraliev(objectives=("dice", "gradient"))],
            "gradnorm": [GradNorm()], "imtl": [IMTL()], "nash": [NashMTL()], "gcs": [GCS(primary="depth")],
            **TORCHJD}[method]  # fmt: skip


def step_for(method: str, rank: int, group: dist.ProcessGroup | None) -> tuple[TrainingStep, Batch]:
    made = prepare(Experiment(name="r", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins(method)], batch_size=2))
    batch = collate([Loadable(made.dataset, torch.ones(8, 3, dtype=torch.bool))[i] for i in range(4)])
    level: Level = "parameters" if method.endswith("parameters") else "features"
    step = TrainingStep(made.network.double(), made.hooks, rank=rank, group=group, level=level, views=views(made.hooks))
    return step.double(), batch


def part(batch: Batch, labels: str, rows: slice, tasks: list[str]) -> Batch:
    """The rows of a batch with a scenario's labels; those withheld are blank."""
    labelled = torch.tensor(LABELS[labels], dtype=torch.bool)
    blank = {"segmentation": -1, "depth": 0, "normals": 0}
    targets = {}
    for column, name in enumerate(tasks):
        t = batch.targets[name]
        t = t.double() if t.is_floating_point() else t
        kept = labelled[:, column].reshape(-1, *[1] * (t.ndim - 1))
        targets[name] = torch.where(kept, t, torch.full_like(t, blank[name]))[rows]
    return Batch(batch.images.double()[rows], targets, labelled[rows], batch.index[rows])


def three_steps(method: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    group = dist.new_group() if world > 1 else None
    step, batch = step_for(method, rank, group)
    module = DistributedDataParallel(step) if world > 1 else step
    optimizer = torch.optim.Adam(step.parameters(), lr=1e-2)
    rows = slice(2 * rank, 2 * rank + 2) if world > 1 else slice(0, 4)
    for number, labels in enumerate(LABELS):
        own, second = (part(batch, which, rows, list(batch.targets)) for which in (labels, "one-rank"))
        ahead = LookAhead(step, own, number, optimizer, lambda source, given=second: given)
        step.hooks.before_step(ahead)
        total, _ = module(own, number)
        total.backward()
        step.arrival.keep()
        optimizer.step()
        optimizer.zero_grad()
        step.hooks.after_step(ahead)
    return step.state_dict()


def worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {method: three_steps(method, rank, 2) for method in METHODS}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [[sys.executable, __file__, str(rank), str(port), str(folder)] for rank in range(2)]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("method", METHODS)
def test_three_adam_steps_equal_those_of_one_process(
    two: list[dict[str, dict[str, torch.Tensor]]], method: str
) -> None:
    one = three_steps(method, 0, 1)
    for rank in range(2):
        for name, value in one.items():
            torch.testing.assert_close(
                two[rank][method][name], value, rtol=1e-5, atol=1e-7, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
            )


if __name__ == "__main__":
    worker(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

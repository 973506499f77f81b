"""Every method: two processes equal one on the same global batch, with tasks absent on one rank and on both."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torchjd_settings import SETTINGS

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_consistency import Consistency, MeanTeacher
from mtl_core import Batch, Experiment
from mtl_core.testing import (
    BlankedDataset,
    EpochMeans,
    Level,
    StepAhead,
    ToyData,
    ToyLabels,
    ToyNetwork,
    TrainingStep,
    collate,
    prepare,
)
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_mtpsl import MTPSL
from mtl_torchjd import TorchJD, catalogue
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.fixed_weights import FixedWeights
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.nash import NashMTL
from mtl_weighting.puw import PUW
from mtl_weighting.rlw import RLW
from mtl_weighting.uniform import Uniform
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

# Krum stops where a batch has fewer than three tasks
GRAMIAN = [name for name in catalogue.aggregators() if name in catalogue.weightings() and name != "Krum"]
ELEMENTWISE = [name for name in catalogue.aggregators() if name in catalogue.elementwise()]
SHAPERS = {"ial": IAL(primary="segmentation", sigma_learning_rate=1e-2), "gradnorm": GradNorm(), "imtl": IMTL(),
           "nash": NashMTL(), "gcs": GCS(primary="depth"), "upgrad": TorchJD(aggregator="UPGrad")}  # fmt: skip


def torchjd(kind: str, name: str) -> list[object]:
    return [TorchJD(**{kind: name}, settings=SETTINGS.get(name, {}))]


METHODS: dict[str, list[object]] = {
    "plain": [], "uniform": [Uniform()], "fixed-weights": [FixedWeights(primary="depth")],
    "mtpsl": [MTPSL()], "consistency": [Consistency()], "jtr-ial": [JTR(), SHAPERS["ial"]],
    "jtr-forms": [
        JTR(network="smooth", target="fixed", ramp=0.3, substitutes="ema", c_pseudo=0.1, pseudo_from="stack")
    ],
    "mean-teacher": [MeanTeacher()],
    "jtr-checkpoint": [JTR(checkpoint=True)],
    "uw": [UW()], "dwa": [DWA()], "rlw": [RLW()], "uw-so": [UWSO()], "atw": [ATW(short=2)],
    "miraliev": [Miraliev(objectives=("dice", "gradient"))], "puw": [PUW(particles=2, warmup_epochs=1)],
    "gradnorm-encoder": [GradNorm(place="encoder")], "gcs-weighted": [GCS(primary="depth", variant="weighted")],
    "ol-aux": [OLAUX(primary="depth", steps=1, beta=1.0)],
    "ol-aux-product": [OLAUX(primary="depth", steps=1, beta=1e3, measure="product")],
    "auto-lambda": [AutoLambda(weight_learning_rate=0.05)],
    "auto-lambda-auxiliary": [AutoLambda(primary="depth", weight_learning_rate=0.05)],
    "auto-lambda-encoder": [AutoLambda(primary="depth", place="encoder", weight_learning_rate=0.05)],
    **{f"ial-{m}": [IAL(primary="depth", measure=m)] for m in ("speed", "norm", "cosine", "fixed")},
    "ial-own-norms": [IAL(primary="depth", match_norms=False)],
    **{name: [shaper] for name, shaper in SHAPERS.items()},
    **{f"{name}-parameters": [shaper] for name, shaper in SHAPERS.items()},
    **{f"aggregator {name}": torchjd("aggregator", name) for name in GRAMIAN},
    **{f"scalarizer {name}": torchjd("scalarizer", name) for name in catalogue.scalarizers()},
    "nash-heads": [NashMTL(heads=True)],
    "aggregator FairGrad with heads": [TorchJD(aggregator="FairGrad", settings={"alpha": 1.0}, heads=True)],
    "scalarizer STCH by nadir": [TorchJD(scalarizer="STCH", settings={"mu": 1.0}, warmup_epochs=0)],
    **{f"refusing {name}": torchjd("aggregator", name) for name in ELEMENTWISE},
}  # fmt: skip
# a difference of float32 sums, of losses that vary by a hundredth here
ROUNDED = ("plugins.puw.before", "plugins.puw.gains")
ADDING_UP = [name for name in METHODS if not name.startswith("refusing")]
# rows of the global batch of 4: rank 0 has the first two. Absent on no rank, on one, on both.
LABELS = {
    "all": [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "one-rank": [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]],
    "both": [[0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]],
}


def step_for(method: str, rank: int, group: dist.ProcessGroup | None) -> tuple[TrainingStep, Batch]:
    toys = [ToyData(), ToyLabels(), ToyNetwork()]
    made = prepare(Experiment(name="r", plugins=[*toys, *METHODS[method]], batch_size=2))
    batch = collate([BlankedDataset(made.dataset, torch.ones(8, 3, dtype=torch.bool))[i] for i in range(4)])
    level: Level = "parameters" if method.endswith("parameters") else "features"
    step = TrainingStep(
        made.network.double(), made.hooks, rank=rank, group=group, level=level, views=made.hooks.count_views()
    )
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
    """What is left of three epochs of one step."""
    group = dist.new_group() if world > 1 else None
    step, batch = step_for(method, rank, group)
    module = DistributedDataParallel(step) if world > 1 else step
    optimizer = torch.optim.Adam(step.parameters(), lr=1e-2)
    averages = EpochMeans(torch.device("cpu"), group)
    rows = slice(2 * rank, 2 * rank + 2) if world > 1 else slice(0, 4)
    for number, labels in enumerate(LABELS):
        own, second = (part(batch, which, rows, list(batch.targets)) for which in (labels, "one-rank"))
        ahead = StepAhead(step, own, number, optimizer, lambda source, given=second: given)
        step.hooks.before_step(ahead)
        total, logged = module(own, number)
        total.backward()
        step.seam.commit()
        optimizer.step()
        optimizer.zero_grad()
        step.hooks.after_step(ahead)
        averages.add(logged)
        validation = {f"val/{task.name}/{task.headline}": 1 + 0.1 * number for task in step.tasks}
        step.hooks.after_epoch(number, averages.take() | validation)
    return step.state_dict()


def tried(method: str, rank: int) -> dict[str, torch.Tensor] | str:
    """On two ranks; an error, which meets both, is for its own test alone."""
    try:
        return three_steps(method, rank, 2)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {method: tried(method, rank) for method in METHODS}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


Found = dict[str, Any]
"""Method → state of a rank's module, or an error's message."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [[sys.executable, __file__, str(rank), str(port), str(folder)] for rank in range(2)]
    # pytest finds tests/shared by its settings, a process of its own does not
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "shared")}
    running = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        assert [process.wait(timeout=200) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("method", ADDING_UP)
def test_three_adam_steps_equal_those_of_one_process(two: list[Found], method: str) -> None:
    one = three_steps(method, 0, 1)
    for found in two:
        assert isinstance(found[method], dict), found[method]
        for name, value in one.items():
            rtol = 1e-2 if name in ROUNDED else 1e-5
            torch.testing.assert_close(
                found[method][name], value, rtol=rtol, atol=1e-7, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_method_on_the_entries_of_the_gradients_refuses(two: list[Found], name: str) -> None:
    for message in (found[f"refusing {name}"] for found in two):
        assert message.startswith(f"MtlError: {name} of torchjd works on the gradients themselves")
        assert "each of the 2 processes has a part; use one device, or a method on the Gramian" in message


if __name__ == "__main__":
    worker(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

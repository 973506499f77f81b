"""Every method in the corners of a data set: one task, frozen heads, no label at all, one image in a batch.

With one task a method either has nothing to do, and the run is the plain one; or it does what its formula says; or it
needs others, and says so before the first step.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_consistency import Consistency, MeanTeacher
from mtl_core import Experiment, MtlError, RunFolder, make_fabric
from mtl_core.testing import Hooks, ToyData, ToyLabels, ToyNetwork, Trainer, make_tasks, prepare
from mtl_crosstask import DirectMap, PerceptualMap
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import Full, HalfLabels, OneLabel, RandomLabels, Unlabelled
from mtl_mtpsl import MTPSL
from mtl_torchjd import TorchJD
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

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = (
    "contrib/mtl-weighting", "contrib/mtl-torchjd", "contrib/mtl-auxiliary", "contrib/mtl-crosstask",
    "contrib/mtl-consistency", "plugins/mtl-ial", "plugins/mtl-jtr", "plugins/mtl-mtpsl",
)  # fmt: skip


@attrs.frozen
class Case:
    """One method, and what one task makes of it.

    :param plugin: the entry point
    :param make: the plugin with an option for each of its tasks, which it is given
    :param one: ``"plain"``: the run without it, to the last bit; ``"works"``; or the message of the refusal
    :param settings: of the experiment
    """

    plugin: str
    make: Callable[[Sequence[str]], object]
    one: str
    settings: dict[str, Any] = attrs.field(factory=dict)


def torchjd(kind: str, name: str, settings: dict[str, Any] | None = None, **options: Any) -> Callable[..., TorchJD]:
    return lambda tasks: TorchJD(**{kind: name}, settings=settings or {}, **options)


CASES = {
    "uniform": Case("uniform", lambda tasks: Uniform(), "plain"),
    "fixed weights": Case("fixed-weights", lambda tasks: FixedWeights(primary=tasks[0]), "plain"),
    "uw": Case("uw", lambda tasks: UW(), "works"),
    "dwa": Case("dwa", lambda tasks: DWA(), "plain"),
    "rlw": Case("rlw", lambda tasks: RLW(), "plain"),
    "uw-so": Case("uw-so", lambda tasks: UWSO(), "plain"),
    "atw": Case("atw", lambda tasks: ATW(), "works"),
    "miraliev": Case("miraliev", lambda tasks: Miraliev(objectives=("dice", "gradient")), "works"),
    "gradnorm": Case("gradnorm", lambda tasks: GradNorm(), "plain"),
    "gradnorm encoder": Case("gradnorm", lambda tasks: GradNorm(place="encoder"), "plain"),
    "imtl losses": Case("imtl", lambda tasks: IMTL(parts="losses"), "works"),
    "imtl gradients": Case("imtl", lambda tasks: IMTL(parts="gradients"), "works"),
    "nash": Case("nash", lambda tasks: NashMTL(), "works"),
    "nash heads": Case("nash", lambda tasks: NashMTL(heads=True), "works"),
    "puw": Case(
        "puw", lambda tasks: PUW(particles=2, warmup_epochs=1), "leave one task (depth) as it is; remove the plugin",
        {"validation": 0.25},
    ),
    "gcs": Case("gcs", lambda tasks: GCS(primary=tasks[0]), "plain"),
    "gcs weighted": Case("gcs", lambda tasks: GCS(primary=tasks[0], variant="weighted"), "plain"),
    "ol-aux": Case("ol-aux", lambda tasks: OLAUX(primary=tasks[0], steps=1), "plain"),
    "ol-aux product": Case("ol-aux", lambda tasks: OLAUX(primary=tasks[0], steps=1, measure="product"), "plain"),
    "auto-lambda": Case("auto-lambda", lambda tasks: AutoLambda(), "and there is one (depth); remove the plugin"),
    "auto-lambda auxiliary": Case(
        "auto-lambda", lambda tasks: AutoLambda(primary=tasks[0], place="encoder"), "and there is one (depth)"
    ),
    "ial": Case("ial", lambda tasks: IAL(primary=tasks[0]), "works"),
    "ial speed": Case("ial", lambda tasks: IAL(primary=tasks[0], measure="speed"), "works"),
    "ial cosine": Case("ial", lambda tasks: IAL(primary=tasks[0], measure="cosine", match_norms=False), "works"),
    "jtr": Case("jtr", lambda tasks: JTR(), "a joint space needs two tasks, found depth; remove the plugin"),
    "jtr released": Case("jtr", lambda tasks: JTR(variant="released"), "a joint space needs two tasks, found depth"),
    "jtr two views": Case("jtr", lambda tasks: JTR(unlabelled="consistency"), "a joint space needs two tasks"),
    "mtpsl": Case("mtpsl", lambda tasks: MTPSL(), "pairs need two tasks, found depth; remove the plugin"),
    "mtpsl released": Case("mtpsl", lambda tasks: MTPSL(variant="released"), "pairs need two tasks, found depth"),
    "direct map": Case("direct-map", lambda tasks: DirectMap(), "maps need two tasks, found depth; remove the plugin"),
    "perceptual map": Case("perceptual-map", lambda tasks: PerceptualMap(), "maps need two tasks, found depth"),
    "consistency": Case("consistency", lambda tasks: Consistency(), "works"),
    "mean teacher": Case("mean-teacher", lambda tasks: MeanTeacher(), "works"),
    "PCGrad": Case("torchjd", torchjd("aggregator", "PCGrad"), "plain"),
    "GradVac": Case("torchjd", torchjd("aggregator", "GradVac"), "plain"),
    "MGDA": Case("torchjd", torchjd("aggregator", "MGDA"), "plain"),
    "MGDA by steps": Case("torchjd", torchjd("aggregator", "MGDA", solver="frank-wolfe"), "plain"),
    "FairGrad heads": Case("torchjd", torchjd("aggregator", "FairGrad", {"alpha": 1.0}, heads=True), "works"),
    "CAGrad": Case("torchjd", torchjd("aggregator", "CAGrad", {"c": 0.4}), "works"),
    "UPGrad": Case("torchjd", torchjd("aggregator", "UPGrad"), "works"),
    "PCD": Case("torchjd", torchjd("aggregator", "PCD"), "works"),
    "ConFIG": Case("torchjd", torchjd("aggregator", "ConFIG"), "works"),
    "GradDrop": Case("torchjd", torchjd("aggregator", "GradDrop"), "plain"),
    "GradDrop by batch": Case("torchjd", torchjd("aggregator", "GradDrop", graddrop="batch"), "works"),
    "Krum": Case("torchjd", torchjd("aggregator", "Krum", {"n_byzantine": 0}), "Krum of torchjd, with 1 task(s): "),
    "TrimmedMean": Case("torchjd", torchjd("aggregator", "TrimmedMean", {"trim_number": 1}), "with 1 task(s): "),
    "UW of torchjd": Case("torchjd", torchjd("scalarizer", "UW"), "works"),
    "DWA of torchjd": Case("torchjd", torchjd("scalarizer", "DWA"), "works"),
    "FAMO": Case("torchjd", torchjd("scalarizer", "FAMO"), "works"),
    "STCH": Case("torchjd", torchjd("scalarizer", "STCH", {"mu": 1.0}), "works"),
    "STCH by nadir": Case("torchjd", torchjd("scalarizer", "STCH", {"mu": 1.0}, warmup_epochs=0), "works"),
    "GLS": Case("torchjd", torchjd("scalarizer", "GeometricMean"), "works"),
}  # fmt: skip
every = pytest.mark.parametrize("name", CASES)
NEEDS_THREE = ("Krum", "TrimmedMean")
"""Stop in a batch with labels of fewer tasks, and say so."""


def trainer(name: str, folder: Path, labels: object, **settings: Any) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    tasks = settings.get("tasks", ("segmentation", "depth", "normals"))
    method = [] if name == "plain" else [CASES[name].make(tasks)]
    own = {} if name == "plain" else CASES[name].settings
    given = {"epochs": 1, "batch_size": 2, "validation": 0.0, "device": "cpu", **own, **settings}
    plugins = [ToyData(samples=4, size=(32, 32)), labels, ToyNetwork(channels=4), *method]
    experiment = Experiment(name="corner", plugins=plugins, **given)
    return Trainer(prepare(experiment, RunFolder(folder)), make_fabric(experiment), RunFolder(folder))


def trained(t: Trainer, folder: Path) -> list[dict[str, Any]]:
    """The epochs' records of a run in which no step was skipped."""
    t.fit()
    history = RunFolder(folder).history()
    assert [record["skipped_steps"] for record in history] == [0] * len(history)
    losses = [value for record in history for key, value in record.items() if key.startswith("train/loss")]
    assert all(value is None or math.isfinite(value) for value in losses)
    return history


def test_the_table_has_every_method() -> None:
    names: set[str] = set()
    for folder in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
        names |= set(project["entry-points"]["mtl.plugins"])
    assert {case.plugin for case in CASES.values()} == names


@every
def test_one_task(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if case.one in ("plain", "works"):
        t = trainer(name, tmp_path / "own", Full(), tasks=("depth",), epochs=2)
        before = [p.clone() for p in t.step.network.parameters()]
        trained(t, tmp_path / "own")
        after = list(t.step.network.parameters())
        assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        if case.one == "plain":
            plain = trainer("plain", tmp_path / "plain", Full(), tasks=("depth",), epochs=2)
            trained(plain, tmp_path / "plain")
            assert all(torch.equal(a, b) for a, b in zip(after, plain.step.network.parameters(), strict=True))
        return
    with pytest.raises(MtlError) as caught:
        trainer(name, tmp_path, Full(), tasks=("depth",))
    plugin = case.plugin
    assert str(caught.value).startswith(f"{plugin}: "), caught.value
    assert case.one in str(caught.value)


@every
@pytest.mark.parametrize("frozen", [("depth",), ("segmentation", "depth", "normals")], ids=["one", "all"])
def test_frozen_heads_stay_and_the_encoder_goes_on(name: str, frozen: tuple[str, ...], tmp_path: Path) -> None:
    t = trainer(name, tmp_path, Full(), freeze=frozen)
    before = {n: p.clone() for n, p in t.step.network.named_parameters()}
    trained(t, tmp_path)
    for parameter, value in t.step.network.named_parameters():
        stays = any(parameter.startswith(f"heads.{task}.") for task in frozen)
        assert torch.equal(value, before[parameter]) == stays, parameter


@every
def test_without_any_label_nothing_breaks(name: str, tmp_path: Path) -> None:
    everything = ToyLabels(never=("segmentation", "depth", "normals"))
    settings = {"validation": 0.25} if name == "puw" else {}
    trained(trainer(name, tmp_path, everything, **settings), tmp_path)


@every
def test_one_image_in_a_batch(name: str, tmp_path: Path) -> None:
    labels = Full() if name in NEEDS_THREE else ToyLabels()
    trained(trainer(name, tmp_path, labels, batch_size=1), tmp_path)


@pytest.mark.parametrize(
    ("scenario", "refused"),
    [
        (Full(), False), (OneLabel(), False), (Unlabelled(), False),
        (RandomLabels(), True), (HalfLabels(), True), (Unlabelled(rest="randomlabels"), True),
    ],
)  # fmt: skip
def test_label_scenarios_with_one_task(scenario: object, refused: bool) -> None:
    hooks = Hooks({"labels": scenario}, required=())
    tasks = make_tasks("depth")
    generator = torch.Generator().manual_seed(0)
    if refused:
        with pytest.raises(MtlError, match=r"the data set has one task \(depth\); use full or unlabelled"):
            hooks.make_label_mask(8, tasks, generator, None)
    else:
        assert hooks.make_label_mask(8, tasks, generator, None).any()

"""Plugins of different distributions in one experiment: every combination trains, and acts where it should."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path

import pytest
import torch

from mtl_auxiliary import GCS, OLAUX
from mtl_backbones import SMP, SegNet
from mtl_consistency import Consistency
from mtl_core import Experiment, MtlError, RunFolder, make_fabric
from mtl_core.testing import BlankedDataset, ToyData, ToyNetwork, Trainer, TrainingStep, collate, prepare
from mtl_crosstask import DirectMap, PerceptualMap
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import Full, HalfLabels, OneLabel, RandomLabels, Unlabelled
from mtl_mtpsl import MTPSL
from mtl_randaugment import Geometry, RandAugment
from mtl_scenes import Scenes
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

SCENARIOS = {"full": Full(), "one": OneLabel(), "random": RandomLabels(), "half": HalfLabels(), "some": Unlabelled()}
REGULARIZERS: dict[str, Callable[[], list[object]]] = {
    "none": list,
    "jtr": lambda: [JTR()],
    "jtr-2": lambda: [JTR(unlabelled="consistency")],
    "jtr-released": lambda: [JTR(variant="released")],
    "mtpsl": lambda: [MTPSL()],
    "consistency": lambda: [Consistency()],
    "direct-map": lambda: [DirectMap()],
    "perceptual-map": lambda: [PerceptualMap()],
}
SHAPERS: dict[str, Callable[[], list[object]]] = {
    "none": list,
    "ial": lambda: [IAL(primary="segmentation")],
    "ial-2": lambda: [IAL(primary=("depth", "normals"))],
}
AUGMENTERS = [Geometry(rotation=5.0), RandAugment()]


def trainer(tmp_path: Path, *plugins: object, **settings: object) -> Trainer:
    given = {"name": "compose", "batch_size": 4, "device": "cpu", "epochs": 1, "validation": 0.0, **settings}
    made = prepare(Experiment(plugins=list(plugins), **given))  # type: ignore[arg-type]
    return Trainer(made, make_fabric(made.experiment), RunFolder(tmp_path))


TOGETHER = [
    *product(SCENARIOS, ("jtr-2", "mtpsl"), ("ial",)),  # every scenario
    *product(("random",), REGULARIZERS, SHAPERS),  # every regularizer with every shaper
]


@pytest.mark.parametrize(("scenario", "regularizer", "shaper"), list(dict.fromkeys(TOGETHER)))
def test_everything_that_composes_trains(tmp_path: Path, scenario: str, regularizer: str, shaper: str) -> None:
    data = Scenes(size=(32, 32), train=8, test=2)
    methods = [*AUGMENTERS, *REGULARIZERS[regularizer](), *SHAPERS[shaper]()]
    t = trainer(tmp_path, data, SCENARIOS[scenario], SegNet(width=4), *methods)
    before = {n: p.clone() for n, p in t.step.named_parameters()}
    t.fit()
    (record,) = RunFolder(tmp_path).history()
    assert record["skipped_steps"] == 0
    assert all(v is not None for k, v in record.items() if k.startswith("train/loss"))
    still = [n for n, p in t.step.named_parameters() if torch.equal(p, before[n])]
    # with every label there is no pair of a task with a label and one without
    assert still == [n for n in before if n.startswith("plugins.mtpsl") and scenario == "full"]
    assert ("jtr/latent_distance" in record) == regularizer.startswith("jtr")
    assert ("ial/sigma/depth" in record) == (shaper != "none")


RULES: dict[str, object] = {
    "uniform": Uniform(),
    "fixed": FixedWeights(primary="depth"),
    "uw": UW(),
    "dwa": DWA(),
    "rlw": RLW(),
    "uw-so": UWSO(),
    "atw": ATW(),
    "miraliev": Miraliev(),
    "imtl-l": IMTL(parts="losses"),
    "gradnorm": GradNorm(),
    "famo": TorchJD(scalarizer="FAMO"),
    "puw": PUW(particles=2, warmup_epochs=1),
}
JUDGED = {"puw": {"validation": 0.25, "epochs": 4}}
"""Settings of rules that look at validation data: here the epochs in which every particle is tried and all move."""
ENCODER_RULES: dict[str, object] = {
    "ial": IAL(primary="segmentation"),
    "imtl-g": IMTL(parts="gradients"),
    "nash": NashMTL(),
    "gcs": GCS(primary="segmentation"),
    "ol-aux": OLAUX(primary="segmentation"),
    "gradnorm": GradNorm(place="encoder"),
    "pcgrad": TorchJD(aggregator="PCGrad"),
    "graddrop": TorchJD(aggregator="GradDrop"),
}


@pytest.mark.parametrize("encoder", ENCODER_RULES)
@pytest.mark.parametrize("decoder", ["uw", "dwa", "imtl-l", "gradnorm"])
def test_any_decoder_rule_goes_with_any_encoder_rule(tmp_path: Path, decoder: str, encoder: str) -> None:
    """Beside JTR and with one label per image, chosen by ``[use]`` where both could combine the losses."""
    data = Scenes(size=(32, 32), train=8, test=2)
    rules = [RULES[decoder], ENCODER_RULES[encoder]]
    use = {"combine_losses": decoder.removesuffix("-l")}
    t = trainer(tmp_path, data, OneLabel(), SegNet(width=4), JTR(), *rules, use=use)
    t.fit()
    (record,) = RunFolder(tmp_path).history()
    assert record["skipped_steps"] == 0
    assert record.get("encoder/weight/depth") is not None or encoder == "graddrop"  # element by element


@pytest.mark.parametrize("rule", RULES)
def test_every_loss_rule_with_every_label_scenario(tmp_path: Path, rule: str) -> None:
    settings = JUDGED.get(rule, {})
    for name, scenario in SCENARIOS.items():
        (tmp_path / name).mkdir()
        plugins = [Scenes(size=(32, 32), train=8, test=2), scenario, SegNet(width=4), RULES[rule]]
        t = trainer(tmp_path / name, *plugins, **settings)
        t.fit()
        history = RunFolder(tmp_path / name).history()
        assert [record["skipped_steps"] for record in history] == [0] * t.experiment.epochs


def test_particles_are_judged_by_the_runs_own_validation(tmp_path: Path) -> None:
    """Equal weights, then two particles in turn, then others; each has brought something."""
    data = Scenes(size=(32, 32), train=8, test=2)
    t = trainer(tmp_path, data, OneLabel(), SegNet(width=4), RULES["puw"], **JUDGED["puw"])
    t.fit()
    used = [record["puw/weight/depth"] for record in RunFolder(tmp_path).history()]
    assert used[0] == 1
    assert len(set(used)) == 4
    assert (t.session.hooks.plugins["puw"].gains != 0).all()


@pytest.mark.parametrize(("first", "second"), list(combinations(("jtr", "mtpsl", "consistency", "perceptual-map"), 2)))
def test_regularizers_beside_each_other_add_up(tmp_path: Path, first: str, second: str) -> None:
    """Two of them in one experiment give the terms that each gives alone on the same step."""
    data = Scenes(size=(32, 32), train=8, test=2)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, chosen in {"first": [first], "second": [second], "both": [first, second]}.items():
        methods = [plugin for regularizer in chosen for plugin in REGULARIZERS[regularizer]()]
        # two views for all three, so that they see the same predictions
        t = trainer(tmp_path / name, data, RandomLabels(), SegNet(width=4, norm="group"), *methods)
        t.step.views = 2
        batch = collate([BlankedDataset(t.session.dataset, t.session.labelled)[i] for i in range(4)])
        found[name] = t.step(batch, 0)[1]
    for name in ("first", "second"):
        own = [key for key in found[name] if key.split("/")[0] in (first, second)]
        assert own
        for key in own:
            torch.testing.assert_close(found["both"][key], found[name][key], rtol=1e-4, atol=1e-6)


def test_a_pyramid_composes_too(tmp_path: Path) -> None:
    data = Scenes(size=(64, 64), train=4, test=2)
    t = trainer(tmp_path, data, OneLabel(), SMP(encoder="resnet18"), JTR(width=4), IAL(primary="depth"))
    t.fit()
    (record,) = RunFolder(tmp_path).history()
    assert record["skipped_steps"] == 0
    assert record["encoder/norm/depth"] > 0


@pytest.mark.parametrize("network", [SegNet(width=4), SMP(encoder="resnet18")], ids=["one tensor", "pyramid"])
def test_element_by_element_is_no_method_at_the_parameters(network: object, tmp_path: Path) -> None:
    data = Scenes(size=(64, 64), train=4, test=2)
    graddrop = TorchJD(aggregator="GradDrop")
    with pytest.raises(MtlError, match='element by element; use level = "features"'):
        trainer(tmp_path, data, OneLabel(), network, graddrop, level="parameters").fit()


def test_means_of_what_arrives_leave_out_the_steps_that_nothing_reached(tmp_path: Path) -> None:
    """One image a step: where it carries depth, IAL gives depth a weight of 1; steps without it do not count."""
    data = Scenes(size=(32, 32), train=8, test=2)
    use = {"combine_losses": "uniform"}
    plugins = [data, OneLabel(), SegNet(width=4), IAL(primary="depth"), Uniform()]
    trainer(tmp_path, *plugins, use=use, batch_size=1).fit()
    (record,) = RunFolder(tmp_path).history()
    assert 0 < record["train/active/depth"] < 1
    assert record["encoder/weight/depth"] == pytest.approx(1)


def test_all_seven_tasks_of_the_scenes(tmp_path: Path) -> None:
    names = ("segmentation", "depth", "normals", "occlusion_edges", "texture_edges", "keypoints", "reshading")
    data = Scenes(size=(32, 32), train=8, test=2, tasks=names)
    t = trainer(tmp_path, data, HalfLabels(), SegNet(width=4), JTR(), IAL(primary="reshading"))
    t.fit()
    assert set(t.session.labelled.sum(1).tolist()) == {3, 4}


def test_gradients_of_jtr_reach_the_encoder_through_ial() -> None:
    """No task has a label: whatever enters the encoder came from JTR, and only with weights that IAL gave."""
    found = {}
    for name, methods in {"jtr": [JTR()], "both": [JTR(), IAL(primary="depth")], "ial": [IAL(primary="depth")]}.items():
        made = prepare(Experiment(name=name, plugins=[ToyData(), OneLabel(), ToyNetwork(), *methods], batch_size=4))
        data = BlankedDataset(made.dataset, made.labelled)
        batch = collate([data[i] for i in range(4)])
        blind = batch._replace(labelled=batch.labelled & (torch.arange(3) != 1))  # the primary has no label
        step = TrainingStep(made.network, made.hooks)
        step(blind, 0)[0].backward()
        found[name] = made.network.backbone[0].weight.grad.clone()
    assert found["jtr"].norm() > 0
    assert (found["both"] - found["ial"]).norm() > 1e-4 * found["ial"].norm()
    assert (found["both"] - found["jtr"]).norm() > 1e-4 * found["jtr"].norm()


def test_a_second_instance_of_a_plugin(tmp_path: Path) -> None:
    """Two joint-task spaces beside each other: two sets of weights, two sets of terms."""
    data = Scenes(size=(32, 32), train=4, test=2)
    t = trainer(tmp_path, data, OneLabel(), SegNet(width=4), JTR(), JTR(tasks=("depth", "normals")))
    t.fit()
    (record,) = RunFolder(tmp_path).history()
    assert "jtr/reconstruction/segmentation" in record
    assert "jtr#2/reconstruction/depth" in record
    assert "jtr#2/reconstruction/segmentation" not in record

"""Auto-λ: its slope against autograd through the virtual step, and against the algorithm written plainly."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_auxiliary import AutoLambda
from mtl_auxiliary import auto_lambda as module
from mtl_core import (
    Batch,
    Experiment,
    LookAhead,
    MtlError,
    RunFolder,
    Tasks,
    hookimpl,
    load_checkpoint,
    make_fabric,
    plugin,
)
from mtl_core.testing import (
    BlankedDataset,
    GradientShaperContract,
    LossRuleContract,
    Network,
    Session,
    StepAhead,
    ToyBackbone,
    ToyData,
    ToyLabels,
    ToyNetwork,
    Trainer,
    TrainingStep,
    collate,
    make_step,
    make_tasks,
    prepare,
)

ETA = 0.05
PLACES = {"losses": "auto-lambda", "encoder": "other0"}
"""Where λ acts → who combines the losses."""
SIZE = (6, 6)


@plugin
class Weighted:
    """Losses with fixed weights."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return (losses * torch.tensor([2.0, 0.5, 3.0], dtype=losses.dtype)).sum()


@plugin
class Normed:
    """A small network with batch norm, smooth everywhere."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        return ToyBackbone(5, nn.Conv2d(in_channels, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Tanh())

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Conv2d(5, task.channels, 1) for task in tasks})


class TestLossRule(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> AutoLambda:
        return AutoLambda()


class TestShaper(GradientShaperContract):
    beside = {"weighted": Weighted()}

    @pytest.fixture
    def plugin(self) -> AutoLambda:
        return AutoLambda(primary="segmentation", place="encoder")


def session_of(*others: object, network: object | None = None, settings: Any = None, **options: Any) -> Session:
    parts = {"data": ToyData(samples=12, size=SIZE), "labels": ToyLabels(), "network": network or Normed()}
    parts |= {"auto-lambda": AutoLambda(**options)} | {f"other{i}": other for i, other in enumerate(others)}
    chosen = {"batch_size": 3, "validation": 0.25, "device": "cpu", "learning_rate": ETA} | (settings or {})
    return prepare(Experiment(name="t", plugins=parts, **chosen))


def batch_of(session: Session, places: range, labelled: Tensor | None = None) -> Batch:
    """Samples in float64, with the session's labels or others."""
    mask = session.labelled if labelled is None else labelled
    batch = collate([BlankedDataset(session.dataset, mask)[i] for i in places])
    targets = {name: t.double() if t.is_floating_point() else t for name, t in batch.targets.items()}
    return Batch(batch.images.double(), targets, batch.labelled, batch.index)


def look(session: Session, first: Batch | None = None, second: Batch | None = None) -> LookAhead:
    step = TrainingStep(session.network.double(), session.hooks).double()
    with torch.no_grad():
        auto(session).weights.copy_(torch.tensor([0.3, 0.9, 0.5]))
    optimizer = torch.optim.SGD(session.network.parameters(), lr=ETA)
    first = batch_of(session, range(6)) if first is None else first
    second = batch_of(session, range(6, 12)) if second is None else second
    return StepAhead(step, first, 0, optimizer, lambda source: second)


def auto(session: Session) -> AutoLambda:
    plugin: AutoLambda = session.hooks.plugins["auto-lambda"]
    return plugin


def slope(session: Session, ahead: LookAhead) -> Tensor:
    own = auto(session)
    return module._weight_slope(
        ahead, ahead.second_batch(), own.weights, own.is_primary, heads=own.place == "losses"
    ).detach()


def losses(predictions: dict[str, Tensor], batch: Batch, tasks: Tasks) -> Tensor:
    """L_t = Σ_b m_bt/|T_b| L_bt / B, sample by sample."""
    total = [torch.zeros((), dtype=torch.float64) for _ in tasks]
    for b, row in enumerate(batch.labelled.tolist()):
        for t, task in enumerate(tasks):
            if row[t]:
                one = task.loss(predictions[task.name][b : b + 1], batch.targets[task.name][b : b + 1])[0]
                total[t] = total[t] + one / sum(row) / len(batch.labelled)
    return torch.stack(total)


def fit(network: Network, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
    # deep copies: batch-norm statistics belong to the copy
    predictions = torch.func.functional_call(copy.deepcopy(network), parameters, (batch.images,))
    return losses(predictions, batch, network.tasks)


def exact_slope(network: Network, chosen: list[str], weights: Tensor, primary: Tensor, ahead: LookAhead) -> Tensor:
    """∂/∂λ of the primary loss at θ − η ∇ Σ λ_t L_t, by autograd through the step."""
    lam = weights.clone().requires_grad_()
    theta = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters() if n in chosen}
    total = (lam * fit(network, theta, ahead.batch)).sum()
    gradient = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    virtual = {name: p - ETA * g for (name, p), g in zip(theta.items(), gradient, strict=True)}
    after = fit(network, virtual, ahead.second_batch())[primary].sum()
    return torch.autograd.grad(after, lam)[0]


def plain_slope(network: Network, chosen: list[str], weights: Tensor, primary: Tensor, ahead: LookAhead) -> Tensor:
    """The published algorithm on a network of its own, whose parameters are moved in place."""
    real = copy.deepcopy(network)
    virtual = copy.deepcopy(network)

    def own(net: Network) -> list[Tensor]:
        return [p for n, p in net.named_parameters() if n in chosen]

    def task_losses(net: Network, batch: Batch) -> Tensor:
        return losses(net(batch.images), batch, net.tasks)

    gradient = torch.autograd.grad((weights * task_losses(real, ahead.batch)).sum(), own(real))
    with torch.no_grad():
        for p, g in zip(own(virtual), gradient, strict=True):
            p -= ETA * g
    v = torch.autograd.grad(task_losses(virtual, ahead.second_batch())[primary].sum(), own(virtual))
    eps = 0.01 / torch.cat([d.flatten() for d in v]).norm()
    with torch.no_grad():
        sides = []
        for sign in (1, -2):
            for p, d in zip(own(real), v, strict=True):
                p += sign * eps * d
            sides.append(task_losses(real, ahead.batch))
    return -ETA * (sides[0] - sides[1]) / (2 * eps)


CASES = {"multi-task": {}, "auxiliary": {"primary": "depth"}, "encoder": {"primary": "normals", "place": "encoder"}}


@pytest.mark.parametrize("case", CASES)
def test_the_slope_is_that_of_the_algorithm_written_plainly(case: str) -> None:
    session = session_of(**CASES[case])
    ahead = look(session)
    own = auto(session)
    chosen = list(ahead.parameters(heads=case != "encoder"))
    expected = plain_slope(session.network, chosen, own.weights, own.is_primary, ahead)
    torch.testing.assert_close(slope(session, ahead), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_slope_is_close_to_that_through_the_virtual_step(case: str) -> None:
    session = session_of(**CASES[case])
    ahead = look(session)
    own = auto(session)
    chosen = list(ahead.parameters(heads=case != "encoder"))
    exact = exact_slope(session.network, chosen, own.weights, own.is_primary, ahead)
    assert exact.abs().min() > 1e-6
    torch.testing.assert_close(slope(session, ahead), exact, rtol=0.02, atol=2e-5)


def test_the_shorter_the_difference_the_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(primary="segmentation")
    ahead = look(session)
    own = auto(session)
    exact = exact_slope(session.network, list(ahead.parameters()), own.weights, own.is_primary, ahead)
    errors = []
    for reach in (1e-1, 1e-2, 1e-3):
        monkeypatch.setattr(module, "_REACH", reach)
        errors.append((slope(session, ahead) - exact).abs().max().item())
    assert errors[0] > 10 * errors[1]


def test_the_modes_differ() -> None:
    found = [slope(s, look(s)) for s in (session_of(), session_of(primary="depth"))]
    assert not torch.allclose(*found, rtol=1e-2)


def test_weights_move_as_adam_moves_them() -> None:
    own = AutoLambda(weight_learning_rate=0.003)
    own.setup(name="auto-lambda", tasks=make_tasks(), places={})
    expected = torch.full((3,), 0.01, requires_grad=True)
    adam = torch.optim.Adam([expected], lr=0.003)
    for number in range(6):
        expected.grad = torch.randn(3, generator=torch.Generator().manual_seed(number)) - 1
        own._move(expected.grad.clone(), torch.ones(3, dtype=torch.bool))
        adam.step()
    torch.testing.assert_close(own.weights, expected.detach())
    assert own.weights.max() > 0.02


def test_a_weight_never_falls_below_zero_and_comes_back() -> None:
    own = AutoLambda(weight_learning_rate=0.1)
    own.setup(name="auto-lambda", tasks=make_tasks(), places={})
    yes = torch.ones(3, dtype=torch.bool)
    own._move(torch.tensor([1.0, -1.0, 1.0]), yes)
    assert own.weights.tolist() == pytest.approx([0, 0.11, 0])
    for _ in range(20):
        own._move(torch.tensor([-1.0, 1.0, 1.0]), yes)
    assert own.weights[0] > 0 == own.weights[2]


def test_a_step_moves_the_weights_and_nothing_of_the_network() -> None:
    session = session_of()
    ahead = look(session)
    before = {name: value.clone() for name, value in session.network.state_dict().items()}
    session.hooks.before_step(ahead)
    assert all(torch.equal(value, before[name]) for name, value in session.network.state_dict().items())
    assert any("running_mean" in name for name in before)
    expected = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64) - 1e-4 * slope_sign(session)
    torch.testing.assert_close(auto(session).weights, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("place", ["losses", "encoder"])
def test_what_is_remembered_holds_no_graph(place: str) -> None:
    """Else every step's graph would hang on to the last one's, and memory would grow."""
    session = session_of(Weighted(), place=place, settings={"use": {"combine_losses": PLACES[place]}})
    for _ in range(2):
        session.hooks.before_step(look(session))
    assert not any(buffer.requires_grad for buffer in auto(session).buffers())


def slope_sign(session: Session) -> Tensor:
    """Adam's first step is the learning rate along the sign, as long as the slope is not tiny."""
    return slope(session, look(session_of())).sign()


def test_a_task_without_a_label_in_the_batch_keeps_its_weight() -> None:
    session = session_of()
    without = session.labelled.clone()
    without[:, 1] = False
    ahead = look(session, first=batch_of(session, range(6), without))
    session.hooks.before_step(ahead)
    own = auto(session)
    assert own.weights[1] == torch.tensor(0.9).double()
    assert own.count.tolist() == [1, 0, 1]
    assert own.first[1] == own.second[1] == 0


@pytest.mark.parametrize("which", ["first", "second"])
def test_without_any_label_nothing_moves(which: str) -> None:
    session = session_of()
    nothing = torch.zeros_like(session.labelled)
    session.hooks.before_step(look(session, **{which: batch_of(session, range(6), nothing)}))
    assert auto(session).weights.tolist() == pytest.approx([0.3, 0.9, 0.5])
    assert not auto(session).count.any()


def test_without_a_primary_label_in_the_second_batch_nothing_moves() -> None:
    session = session_of(primary="depth")
    without = session.labelled.clone()
    without[:, 1] = False
    session.hooks.before_step(look(session, second=batch_of(session, range(6, 12), without)))
    assert not auto(session).count.any()


def test_a_batch_that_is_not_finite_moves_nothing() -> None:
    session = session_of()
    batch = batch_of(session, range(6))
    session.hooks.before_step(look(session, first=batch._replace(images=batch.images * float("nan"))))
    assert auto(session).weights.isfinite().all()
    assert not auto(session).count.any()


@pytest.mark.parametrize("source", ["training", "validation"])
def test_the_second_batch_comes_from_where_it_was_asked(source: str) -> None:
    session = session_of(validation_batch=source)
    ahead = look(session)
    asked = []
    second = ahead.second
    recording = StepAhead(ahead.step, ahead.batch, 0, ahead.optimizer, lambda s: asked.append(s) or second(s))
    session.hooks.before_step(recording)
    assert asked == [source]


def test_losses_are_weighed() -> None:
    own = AutoLambda()
    step = make_step(make_tasks())
    own.setup(name="auto-lambda", tasks=make_tasks(), places={})
    own.weights.copy_(torch.tensor([0.2, 0.3, 0.4]))
    given = torch.tensor([1.0, float("nan"), 10.0])
    active = torch.tensor([True, False, True])
    assert own.combine_losses(losses=given, active=active, step=step).item() == pytest.approx(0.2 + 4)
    assert {n: v.item() for n, v in step.logged.items()} == pytest.approx(
        {"lambda/segmentation": 0.2, "lambda/depth": 0.3, "lambda/normals": 0.4}
    )


def test_in_the_encoder_losses_are_weighed_by_lambda_and_heads_by_the_other_rule() -> None:
    session = session_of(Weighted(), primary="depth", place="encoder", network=ToyNetwork(channels=4))
    ahead = look(session)
    network = session.network
    total, _ = ahead.step(ahead.batch, 0)
    total.backward()
    found = {name: p.grad for name, p in network.named_parameters()}
    per_task = losses(network(ahead.batch.images), ahead.batch, network.tasks)
    for weights, part in (([0.3, 0.9, 0.5], "backbone"), ([2, 0.5, 3], "heads")):
        own = {name: p for name, p in network.named_parameters() if name.startswith(part)}
        objective = (torch.tensor(weights, dtype=torch.float64) * per_task).sum()
        expected = torch.autograd.grad(objective, list(own.values()), retain_graph=True)
        for name, gradient in zip(own, expected, strict=True):
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-10)


def test_in_the_encoder_the_place_of_the_losses_is_left_to_others() -> None:
    assert session_of(Weighted(), place="encoder").hooks.places["combine_losses"] == "other0"
    assert session_of().hooks.places.get("shape_encoder_gradient") is None


def test_weights_that_would_weigh_nothing_are_refused() -> None:
    parts = {"data": ToyData(), "labels": ToyLabels(), "network": ToyNetwork(), "a": AutoLambda(), "b": Weighted()}
    with pytest.raises(MtlError, match=r'a: place = "losses" needs the hook combine_losses, which plugin "b" fills'):
        prepare(Experiment(name="t", plugins=parts, use={"combine_losses": "b"}))


def trained(folder: Path, epochs: int, resume: bool = False, **options: Any) -> dict[str, Any]:
    session = session_of(settings={"epochs": epochs, "learning_rate": 1e-3}, **options)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(session, make_fabric(session.experiment), RunFolder(folder))
    if resume:
        trainer.resume()
    trainer.fit()
    return load_checkpoint(folder / "last.ckpt")


@pytest.mark.parametrize("options", [{}, {"primary": "depth", "validation_batch": "validation"}], ids=str)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = trained(tmp_path / "whole", 3, **options)["step"]
    trained(tmp_path / "parts", 1, **options)
    parts = trained(tmp_path / "parts", 3, resume=True, **options)["step"]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["plugins.auto-lambda.count"].max() > 6
    assert not torch.equal(whole["plugins.auto-lambda.weights"], torch.full((3,), 0.01))


def test_an_unknown_primary_names_the_nearest_task() -> None:
    with pytest.raises(MtlError, match=r"auto-lambda\.primary: .*'dept'; did you mean \"depth\"\?"):
        session_of(primary="dept")


@pytest.mark.parametrize(
    "options",
    [{"place": "heads"}, {"initial_weight": 0.0}, {"weight_learning_rate": 0.0}, {"validation_batch": "test"}],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AutoLambda(**options)

"""torchjd's aggregators: as torchjd computes them, on whatever branches are there."""

from __future__ import annotations

import attrs
import pytest
import torch
import torchjd.aggregation
from torch import Tensor

from mtl_core import MtlError, Shaped
from mtl_core.testing import (
    ROWS,
    GradientShaperContract,
    Hooks,
    StubBackbone,
    encoder_gradients,
    entering,
    make_step,
    make_tasks,
    random_rows,
)
from mtl_torchjd import TorchJD, catalogue

HOST = {"test_runs_on_the_meta_device": "torchjd computes on the host: one round trip in each step"}
FEW = "needs more branches than a batch without labels may have"
SETTINGS = {
    "CAGrad": {"c": 0.4},
    "CRMOGM": {"weighting": "UPGrad"},
    "Constant": {"weights": (1.0, 2.0, 3.0)},
    "FairGrad": {"alpha": 1.0},
    "Krum": {"n_byzantine": 0},
    "TrimmedMean": {"trim_number": 1},
}
GRAMIAN = sorted(set(catalogue.aggregators()) - set(catalogue.elementwise()))
ELEMENTWISE = sorted(catalogue.elementwise().keys() & catalogue.aggregators().keys())
RANDOM = {"PCGrad", "GradVac", "Random", "GradDrop"}
SOLVED = {"CAGrad", "FairGrad"}  # their solvers stop where the last bits of the Gramian lead them


def make(name: str, **options: object) -> TorchJD:
    return TorchJD(aggregator=name, settings=SETTINGS.get(name, {}), **options)


class TestEveryWeighting(GradientShaperContract):
    skips = HOST
    order_matters = True  # preferences are given by place
    tolerance = 1e-4

    @pytest.fixture(params=[name for name in GRAMIAN if name not in ("Krum", "PCD", "CAGrad")])
    def plugin(self, request: pytest.FixtureRequest) -> TorchJD:
        return make(request.param)


class TestOneThatAsksAConicSolver(GradientShaperContract):
    skips = {
        **HOST,
        "test_scale_invariance": "the solver's tolerance decides where rows differ by six orders of magnitude",
    }

    @pytest.fixture
    def plugin(self) -> TorchJD:
        return make("CAGrad")


class TestOneThatHasALeader(GradientShaperContract):
    skips = {
        **HOST,
        "test_a_branch_that_nothing_reached_stops_nobody": "PCD's rule: without its primary task nothing enters",
    }
    tolerance = 1e-4

    @pytest.fixture
    def plugin(self) -> TorchJD:
        return make("PCD", primary="depth")


class TestEveryElementwiseAggregator(GradientShaperContract):
    skips = HOST
    elementwise = True
    tolerance = 1e-4

    @pytest.fixture(params=[name for name in ELEMENTWISE if name != "TrimmedMean"])
    def plugin(self, request: pytest.FixtureRequest) -> TorchJD:
        return make(request.param)


def prepared(plugin: TorchJD) -> Hooks:
    hooks = Hooks({"plugin": plugin}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def enters(hooks: Hooks, rows: Tensor) -> Tensor:
    gradients = encoder_gradients(rows, step=make_step(make_tasks()))
    answer = hooks.shape_encoder_gradient(gradients)
    assert isinstance(answer, Shaped)
    return entering(gradients, answer.weights)


def published(name: str, rows: Tensor, keep: Tensor) -> Tensor:
    """torchjd's own aggregator on the Jacobian, with the draws of the step."""
    class_ = getattr(torchjd.aggregation, name, None)
    settings: dict[str, object] = dict(catalogue._DEFAULTS.get(name, {}))
    for key, value in SETTINGS.get(name, {}).items():
        settings[key] = torch.tensor(value, dtype=rows.dtype)[keep] if isinstance(value, tuple) else value
    if name == "CRMOGM":  # without a past it is what it smooths
        class_ = torchjd.aggregation.UPGrad
        settings = {}
    assert class_ is not None
    torch.manual_seed(make_step(make_tasks()).shared.initial_seed())
    aggregator = class_(**settings)
    if name in SOLVED:
        gramian = encoder_gradients(rows).gramian[keep][:, keep]
        return torch.as_tensor(aggregator.gramian_weighting(gramian) @ rows[keep])
    return torch.as_tensor(aggregator(rows[keep]))


@pytest.mark.parametrize("name", [*GRAMIAN, *ELEMENTWISE])
@pytest.mark.parametrize("case", ["random", "conflicting", "uneven", "last row zero", "first row zero"])
def test_is_what_torchjd_computes_on_the_reached_rows(name: str, case: str) -> None:
    rows = ROWS[case](random_rows(3))
    keep = (rows != 0).any(1).nonzero().flatten()
    few = len(keep) < 3 and name in ("Krum", "TrimmedMean")
    leaderless = name == "PCD" and not rows[0].any()
    if few or leaderless:
        return
    options = {"solver": "frank-wolfe"} if name == "MGDA" else {}
    found = enters(prepared(make(name, rescale=False, **options)), rows)
    expected = published(name, rows, keep)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_settings_are_as_precise_as_the_gradients() -> None:
    settings = {"pref_vector": (1.0, 2.0, 3.0)}
    double, single = (
        enters(prepared(TorchJD(aggregator="ConFIG", settings=settings)), random_rows(3).to(dtype))
        for dtype in (torch.float64, torch.float32)
    )
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Krum", "TrimmedMean"])
def test_says_so_when_a_batch_has_too_few_tasks(name: str) -> None:
    with pytest.raises(MtlError, match=rf"{name} of torchjd, with . task\(s\) in a batch"):
        enters(prepared(make(name)), ROWS["first row alone"](random_rows(3)))


@pytest.mark.parametrize("case", ["random", "conflicting", "uneven", "rank deficient"])
@pytest.mark.parametrize("name", ["MGDA", "UPGrad", "DualProj"])
def test_no_task_is_worked_against(name: str, case: str) -> None:
    """What MGDA, UPGrad and DualProj find has a product with every row that is not negative."""
    rows = ROWS[case](random_rows(3))
    rows = rows / rows.norm(dim=1, keepdim=True)  # their constants are relative to the largest row
    direction = enters(prepared(make(name)), rows)
    products = rows @ direction / (rows.norm(dim=1) * direction.norm().clamp(min=1e-6))
    assert (products > -2e-2).all(), products


def test_pcgrad_leaves_no_conflict_between_two_tasks() -> None:
    for seed in range(20):
        rows = random_rows(3, seed=seed)
        rows[2] = 0
        rows[1] -= 2 * rows[0]
        assert rows[0] @ rows[1] < 0
        assert (rows[:2] @ enters(prepared(make("PCGrad")), rows) >= -1e-9).all()


@pytest.mark.parametrize("name", sorted(set(GRAMIAN) - RANDOM - {"Constant", "PCD", "Krum"}))
def test_another_order_of_the_tasks_gives_the_same_gradient(name: str) -> None:
    rows = random_rows(3)
    one, other = (enters(prepared(make(name)), rows[order]) for order in ([0, 1, 2], [2, 0, 1]))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_draws_anew_in_every_step_and_alike_on_every_rank() -> None:
    tasks = make_tasks()
    rows = ROWS["conflicting"](random_rows(3))
    hooks = prepared(make("Random"))
    steps = [make_step(tasks, seed=seed, rank=rank) for seed, rank in ((0, 0), (0, 1), (1, 0))]
    found = [hooks.shape_encoder_gradient(encoder_gradients(rows, step=step)) for step in steps]
    first, rank, seed = (answer.weights for answer in found if isinstance(answer, Shaped))
    assert torch.equal(first, rank)
    assert not torch.equal(first, seed)


def keep(hooks: Hooks, answer: Shaped) -> None:
    """As core does it once the step is taken."""
    buffers = dict(hooks.plugins["plugin"].named_buffers())
    for name, value in answer.state.items():
        buffers[name].copy_(value)


@pytest.mark.parametrize("name", ["GradVac", "PCD", "CRMOGM"])
def test_what_it_remembers_is_what_torchjd_remembers(name: str) -> None:
    """Five steps in a row, with the same draws."""
    hooks = prepared(make(name, rescale=False))
    class_ = getattr(torchjd.aggregation, f"{name}Weighting")
    oracle = class_(torchjd.aggregation.UPGradWeighting()) if name == "CRMOGM" else class_()
    for seed in range(5):
        rows = random_rows(3, seed=seed)
        gradients = encoder_gradients(rows, step=make_step(make_tasks(), seed=seed))
        assert gradients.step is not None
        answer = hooks.shape_encoder_gradient(gradients)
        assert isinstance(answer, Shaped)
        keep(hooks, answer)
        torch.manual_seed(gradients.step.shared.initial_seed())
        torch.testing.assert_close(answer.weights, oracle(rows @ rows.T), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["GradVac", "PCD", "CRMOGM"])
def test_a_task_that_is_absent_keeps_its_state(name: str) -> None:
    hooks = prepared(make(name))
    for seed in range(3):
        answer = hooks.shape_encoder_gradient(
            encoder_gradients(random_rows(3, seed=seed), step=make_step(make_tasks()))
        )
        assert isinstance(answer, Shaped)
        keep(hooks, answer)
    before = {n: b.clone() for n, b in hooks.plugins["plugin"].named_buffers()}
    answer = hooks.shape_encoder_gradient(
        encoder_gradients(ROWS["last row zero"](random_rows(3, seed=7)), step=make_step(make_tasks()))
    )
    assert isinstance(answer, Shaped)
    for key, old in before.items():
        if old.ndim:
            assert torch.equal(answer.state[key][2], old[2]), key
            assert not torch.equal(answer.state[key], old), key


def test_small_gradients_are_weighed_like_large_ones() -> None:
    """torchjd's constants are made for gradients near 1: without rescale small ones are averaged."""
    rows = ROWS["conflicting"](random_rows(3))
    near, small = (enters(prepared(make("UPGrad")), rows * scale) for scale in (1, 1e-6))
    torch.testing.assert_close(near, small * 1e6)
    plain = enters(prepared(make("UPGrad", rescale=False)), rows * 1e-6) * 1e6
    torch.testing.assert_close(plain, rows.mean(0))


@pytest.mark.parametrize("size", [1e-3, 1e-4, 1e-6])
def test_a_small_branch_does_not_stop_cagrad(size: float) -> None:
    """torchjd's own norm_eps of 1e-4 gives weights of 0 for a branch at 1e-4 of the others: the encoder stood still."""
    rows = random_rows(3)
    rows = rows / rows.norm(dim=1, keepdim=True)
    rows[2] *= size
    direction = enters(prepared(make("CAGrad")), rows)
    mean = rows.mean(0)
    # CAGrad's constraint: no further from the mean than c times its length, and on its boundary here
    torch.testing.assert_close((direction - mean).norm(), 0.4 * mean.norm(), rtol=1e-3, atol=0)
    torch.testing.assert_close(direction - mean, 0.4 * mean.norm() * rows[2] / size, rtol=2e-2, atol=2e-2 * mean.norm())
    stopped = TorchJD(aggregator="CAGrad", settings={"c": 0.4, "norm_eps": 1e-4})
    assert bool(enters(prepared(stopped), rows).any()) == (size > 1e-4)


def test_a_pyramid_with_a_level_that_nobody_uses() -> None:
    rows = random_rows(3)
    gradients = encoder_gradients(rows, step=make_step(make_tasks()))
    pyramid = attrs.evolve(gradients, branches=tuple((b[0][:1], None, b[0][1:]) for b in gradients.branches))
    hooks = prepared(make("TrimmedMean"))
    whole = hooks.shape_encoder_gradient(gradients)
    parts = hooks.shape_encoder_gradient(pyramid)
    assert isinstance(whole, Shaped)
    assert isinstance(parts, Shaped)
    assert parts.weights[1] is None
    assert torch.equal(torch.cat([parts.weights[0], parts.weights[2]]), whole.weights)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregator": "PCgrad"}, 'torchjd has no "PCgrad"; did you mean "PCGrad"'),
        ({"aggregator": "MoDo"}, "two independent batches"),
        ({"aggregator": "NashMTL"}, 'plugin "nash"'),
        ({}, "either an aggregator or a scalarizer"),
        ({"aggregator": "MGDA", "scalarizer": "UW"}, "either an aggregator or a scalarizer"),
        ({"aggregator": "CAGrad", "settings": {"d": 1.0}}, r'no setting "d".*it has: c, norm_eps'),
        ({"aggregator": "MGDA", "primary": "depth"}, "only PCD has a primary task"),
        ({"aggregator": "UPGrad", "solver": "frank-wolfe"}, "only MGDA has a choice of solvers"),
        ({"aggregator": "MGDA", "settings": {"max_iters": 250}}, 'max_iters.*add solver = "frank-wolfe"'),
        ({"aggregator": "MGDA", "solver": "newton"}, "'solver' must be in"),
        ({"aggregator": "MGDA", "graddrop": "batch"}, "only GradDrop"),
        ({"scalarizer": "UW", "warmup_epochs": 4}, "only STCH has a warm-up"),
        ({"scalarizer": "STCH", "settings": {"mu": 1.0}, "warmup_epochs": -1}, "'warmup_epochs' must be >= 0"),
        (
            {"scalarizer": "STCH", "settings": {"mu": 1.0, "reference": (0.0, 0.0, 0.0)}, "warmup_epochs": 4},
            "leave out reference",
        ),
        ({"scalarizer": "UW", "heads": True}, "only aggregators on the Gramian"),
        ({"aggregator": "GradDrop", "heads": True}, "only aggregators on the Gramian"),
        ({"aggregator": "GradVac", "heads": True}, "GradVac keeps a state"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchJD(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"aggregator": "UPGrad", "settings": {"pref_vector": (1.0, 2.0)}},
            "2 numbers; expected one for each of the 3",
        ),
        ({"aggregator": "CRMOGM", "settings": {"weighting": "GradVac"}}, "GradVac keeps a state"),
        ({"aggregator": "CAGrad", "settings": {"c": -1.0}}, "CAGrad of torchjd"),
        ({"aggregator": "PCD", "primary": "deph"}, 'no task "deph"; did you mean "depth"'),
    ],
)
def test_mistakes_that_need_the_tasks_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(MtlError, match=message):
        prepared(TorchJD(**options))  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    with pytest.raises(MtlError, match=r'CAGrad of torchjd: .*pip install "torchjd\[cagrad\]"'):
        prepared(make("CAGrad"))

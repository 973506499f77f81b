"""MGDA's minimum-norm point: against every face of the hull, and against its optimality conditions."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from mtl_core.testing import Hooks, StubBackbone, encoder_gradients, make_tasks, random_rows
from mtl_torchjd import TorchJD
from mtl_torchjd.min_norm import _min_norm_weights

D = torch.float64


def of_a_face(rows: Tensor) -> Tensor | None:
    """The point of smallest norm in the plane through the rows (m, D) as weights; None where it is outside the face.

    From the smallest row along unit directions to the others, by QR: no products of sizes that are far apart.
    """
    base = int(rows.norm(dim=1).argmin())
    others = [k for k in range(len(rows)) if k != base]
    if not others:
        return torch.ones(1, dtype=D)
    away = rows[others] - rows[base]
    lengths = away.norm(dim=1)
    steps = torch.linalg.lstsq((away / lengths[:, None]).T, -rows[base][:, None]).solution[:, 0] / lengths
    weights = torch.zeros(len(rows), dtype=D)
    weights[others] = steps
    weights[base] = 1 - steps.sum()
    return weights if bool((weights >= 0).all()) else None


def by_faces(rows: Tensor) -> Tensor:
    """The smallest norm over all faces of the hull, K ≤ 4."""
    norms = []
    for size in range(1, len(rows) + 1):
        for chosen in combinations(range(len(rows)), size):
            weights = of_a_face(rows[list(chosen)])
            if weights is not None:
                norms.append((weights @ rows[list(chosen)]).norm())
    return torch.stack(norms).min()


def rows_of(tasks: int, kind: str, seed: int) -> Tensor:
    b = random_rows(tasks, seed=seed)
    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(seed))
    return {
        "random": b,
        "conflicting": torch.cat((b[:1], 0.3 * b[1:] - b[:1])),
        "uneven": b * torch.logspace(-3, 3, tasks, dtype=D)[order, None],
        "two dimensions": b * (torch.arange(b.shape[1]) < 2),
    }[kind]


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["random", "conflicting", "uneven"])
def test_no_face_of_the_hull_has_a_smaller_norm(tasks: int, kind: str) -> None:
    for seed in range(20):
        rows = rows_of(tasks, kind, seed)
        found = _min_norm_weights(rows @ rows.T)
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(), torch.ones((), dtype=D))
        torch.testing.assert_close((found @ rows).norm(), by_faces(rows), rtol=1e-9, atol=0)


@pytest.mark.parametrize("tasks", [7, 20])
@pytest.mark.parametrize("kind", ["random", "conflicting", "uneven"])
def test_the_conditions_of_the_optimum_hold(tasks: int, kind: str) -> None:
    """⟨b_t, d⟩ ≥ ‖d‖², with equality where α_t > 0; relative to ‖b_t‖‖d‖, with sizes that differ by 10⁶."""
    for seed in range(20):
        rows = rows_of(tasks, kind, seed)
        found = _min_norm_weights(rows @ rows.T)
        d = found @ rows
        slack = (rows @ d - d @ d) / (rows.norm(dim=1) * d.norm())
        assert (slack > -1e-9).all(), slack
        assert (slack[found > 0].abs() < 1e-9).all(), slack


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("opposite", [[1.0, 0.0], [-2.0, 0.0]]),
        ("around zero", [[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]]),
        ("more than dimensions", [[1.0, 0.1], [-1.0, 0.2], [0.3, -1.0], [0.2, 1.0], [-0.4, -0.6]]),
    ],
)
def test_where_the_hull_holds_zero_nothing_enters(case: str, rows: list[list[float]]) -> None:
    b = torch.tensor(rows, dtype=D)
    assert (_min_norm_weights(b @ b.T) @ b).norm() < 1e-12


@pytest.mark.parametrize("kind", ["random", "uneven", "two dimensions"])
def test_a_gramian_in_single_precision_is_enough(kind: str) -> None:
    """Rounded products have eigenvalues below 0; the norm is right to their precision."""
    rows = rows_of(7, kind, 0)
    single = rows.float()
    found = _min_norm_weights((single @ single.T).double())
    best = _min_norm_weights(rows @ rows.T) @ rows
    smallest = rows.norm(dim=1).min()
    assert (found @ rows).norm() <= best.norm() + 1e-3 * smallest


def prepared(tasks: int, **options: object) -> Hooks:
    names = ("segmentation", "depth", "normals", "edges", "shading", "scene")[:tasks]
    hooks = Hooks({"plugin": TorchJD(aggregator="MGDA", **options)}, required=())  # type: ignore[arg-type]
    hooks.setup(make_tasks(*names), (32, 64), StubBackbone(width=4), lambda name: None)
    return hooks


@pytest.mark.parametrize("kind", ["random", "uneven"])
def test_the_plugin_is_exact_and_torchjds_steps_are_an_option(kind: str) -> None:
    rows = rows_of(6, kind, 0)
    tasks = make_tasks("segmentation", "depth", "normals", "edges", "shading", "scene")
    gradients = encoder_gradients(rows, tasks)
    norms = {}
    for solver in ("exact", "frank-wolfe"):
        answer = prepared(6, solver=solver).shape_encoder_gradient(gradients)
        assert answer is not None
        norms[solver] = float((answer.weights @ rows).norm())  # type: ignore[union-attr]
    best = (_min_norm_weights(rows @ rows.T) @ rows).norm().item()
    assert norms["exact"] == pytest.approx(best, rel=1e-12)
    assert norms["frank-wolfe"] > best * (1.0001 if kind == "random" else 10)


def test_torchjds_settings_go_with_its_steps() -> None:
    gradients = encoder_gradients(rows_of(3, "conflicting", 0))
    plugins = [prepared(3, solver="frank-wolfe", settings={"max_iters": n}) for n in (1, 200)]
    first, second = (hooks.shape_encoder_gradient(gradients) for hooks in plugins)
    assert not torch.equal(first.weights, second.weights)  # type: ignore[union-attr]

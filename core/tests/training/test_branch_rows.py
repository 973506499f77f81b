"""Rows that are kept between steps change nothing but where gradients wait."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtl_core import EncoderGradients, Experiment, Features, RunFolder, hookimpl, make_fabric, plugin, seam
from mtl_core.testing import ToyData, ToyLabels, ToyNetwork, Trainer, prepare
from mtl_core.training.branch_rows import BranchRows, LentRows, as_matrix
from mtl_core.training.branching import branch_by_branch

K = 10
Gramians = list[Tensor]


class Net(nn.Module):
    """An encoder with one or two levels, and heads of which the last uses the first level alone."""

    def __init__(self, pyramid: bool, channels_last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pyramid = pyramid
        self.channels_last = channels_last
        self.encoder = nn.Conv2d(3, 4, 3, padding=1).double()
        self.heads = nn.ModuleList(nn.Conv2d(4, 2, 1).double() for _ in range(K))

    def features(self, batch: int, seed: int = 0) -> Features:
        x = torch.randn(batch, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        z: Tensor = self.encoder(x)
        if self.channels_last:
            z = z.contiguous(memory_format=torch.channels_last)
        return (z, z[:, :, ::2].tanh()) if self.pyramid else z

    def loss(self, number: int, z: Features, left_out: int | None = None) -> Tensor:
        levels = (z,) if isinstance(z, Tensor) else z
        used = levels[:1] if number == K - 1 else levels
        total = torch.stack([self.heads[number](level).square().mean() for level in used]).sum()
        return total * 0 if number == left_out else (number + 1) * total


def weights(branches: tuple[seam.Branch, ...], gramians: Gramians) -> Tensor:
    gramians.append(seam.gramian(branches, torch.ones((), dtype=torch.float64)))
    return 1 / gramians[-1].diagonal().sqrt().clamp(min=1e-3)


def step(net: Net, batch: int, rows: BranchRows | None, seed: int = 0, unreached: bool = False) -> list[Tensor]:
    """The Gramian, and the gradients of all parameters."""
    gramians: Gramians = []
    scale = seam.LossScale()
    z = net.features(batch, seed)
    copies = branch_by_branch(z, K, lambda b, s: weights(b, gramians), scale, rows)
    losses = [net.loss(number, one) for number, one in enumerate(copies)]
    net.zero_grad()
    scale.apply(torch.stack(losses[1:] if unreached else losses).sum()).backward()  # type: ignore[no-untyped-call]
    return [gramians[0], *(torch.zeros(()) if p.grad is None else p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize("unreached", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pyramid", [False, True])
def test_gramian_and_gradients_are_the_same_in_every_step(pyramid: bool, channels_last: bool, unreached: bool) -> None:
    """Batches of several sizes, one after the other, in the same rows."""
    net = Net(pyramid, channels_last)
    rows = BranchRows()
    for number, batch in enumerate((4, 4, 2, 4, 3)):
        found = step(net, batch, rows, number, unreached)
        for one, other in zip(found, step(net, batch, None, number, unreached), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def through(
    rows: BranchRows, net: Net, shape: Callable[[tuple[seam.Branch, ...]], Features], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The total loss of a step, not yet differentiated, and z."""
    scale = seam.LossScale()
    z = net.features(2, seed)
    assert isinstance(z, Tensor)
    z.retain_grad()
    copies = branch_by_branch(z, K, lambda b, s: shape(b), scale, rows)
    return scale.apply(torch.stack([net.loss(number, one) for number, one in enumerate(copies)]).sum()), z


def test_rows_are_used_again_and_lie_one_after_the_other() -> None:
    net, rows = Net(False, False), BranchRows()
    seen: list[int] = []

    def shape(branches: tuple[seam.Branch, ...]) -> Tensor:
        flat = [b[0].flatten() for b in branches if b[0] is not None]
        matrix = as_matrix(flat)
        assert matrix is not None
        assert torch.equal(matrix, torch.stack(flat))
        seen.append(matrix.data_ptr())
        return torch.ones(K).double()

    for _ in range(3):
        through(rows, net, shape)[0].backward()  # type: ignore[no-untyped-call]
    assert len(set(seen)) == 1


def test_rows_elsewhere_are_no_matrix() -> None:
    whole = torch.rand(4, 6)
    assert as_matrix([whole[0], whole[2]]) is None
    assert as_matrix([whole[0], whole[1].clone()]) is None
    assert as_matrix([whole.T[0], whole.T[1]]) is None
    assert as_matrix(list(whole)) is not None


def fourth(branches: tuple[seam.Branch, ...]) -> Tensor:
    (found,) = branches[3]
    assert found is not None
    return found


def test_an_answer_that_is_a_branch_survives_the_next_step() -> None:
    """A shaper may return a branch itself; what autograd makes of it must not change when the rows do."""
    net, rows = Net(False, False), BranchRows()
    total, z = through(rows, net, fourth)
    total.backward()  # type: ignore[no-untyped-call]
    kept = z.grad
    assert kept is not None
    before = kept.clone()
    through(rows, net, lambda b: torch.ones(K).double(), seed=1)[0].backward()  # type: ignore[no-untyped-call]
    assert torch.equal(kept, before)


def test_two_steps_under_way_at_once_do_not_share_rows() -> None:
    rows = BranchRows()
    one, other = rows.lend(2), rows.lend(2)
    kept = [lent.put(0, k, torch.full((3,), 10.0 * n + k)) for n, lent in enumerate((one, other)) for k in range(2)]
    assert [x.tolist() for x in kept] == [[value] * 3 for value in (0.0, 1.0, 10.0, 11.0)]
    one.done(())
    assert rows.lend(2).put(0, 0, torch.zeros(3)).data_ptr() == kept[0].data_ptr()


def test_a_gradient_that_is_differentiated_again_is_no_copy() -> None:
    """A penalty on ∂L/∂z crosses the seam with a graph, before the step's own pass."""
    net = Net(False, False)
    found = []
    for rows in (BranchRows(), None):
        net.zero_grad()
        scale = seam.LossScale()
        z = net.features(2)
        copies = branch_by_branch(z, K, lambda b, s: torch.ones(K).double(), scale, rows)
        total = torch.stack([net.loss(number, one) for number, one in enumerate(copies)]).sum()
        (gradient,) = torch.autograd.grad(total, z, create_graph=True)
        scale.apply(total + gradient.square().sum()).backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_branch_is_in_its_row_before_the_next_head_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all K gradients would wait in blocks of their own."""
    net, rows, order = Net(False, False), BranchRows(), list[str]()
    put = LentRows.put

    def noted(lent: LentRows, level: int, branch: int, gradient: Tensor) -> Tensor:
        order.append(f"row {branch}")
        return put(lent, level, branch, gradient)

    monkeypatch.setattr(LentRows, "put", noted)
    for number, head in enumerate(net.heads):
        next(head.parameters()).register_hook(partial(lambda n, _: order.append(f"head {n}"), number))  # type: ignore[no-untyped-call]
    through(rows, net, lambda b: torch.ones(K).double())[0].backward()  # type: ignore[no-untyped-call]
    waiting = [sum(o.startswith("head") for o in order[:n]) - n // 2 for n in range(len(order))]
    assert len(order) == 2 * K
    assert max(waiting) <= 2, order


@plugin
class ByNorm:
    """Weights that make all branches equally long."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.where(gradients.reached, 1 / gradients.norms.clamp(min=1e-6), 0)


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, many: int) -> Tensor:
    for module in ("branching", "gramian"):
        monkeypatch.setattr(f"mtl_core.training.{module}.MANY", many)
    plugins = [ToyData(samples=10, size=(16, 16)), ToyLabels(), ToyNetwork(), ByNorm()]
    made = Experiment(
        name="rows", plugins=plugins, batch_size=2, accumulate=2, validation=0.0, device="cpu", learning_rate=1e-2
    )
    trainer = Trainer(prepare(made), make_fabric(made), RunFolder(folder))
    before = nn.utils.parameters_to_vector(trainer.step.network.parameters()).detach()
    trainer.train_epoch(lambda *_: None)
    return nn.utils.parameters_to_vector(trainer.step.network.parameters()).detach() - before


def test_a_training_with_absent_tasks_and_accumulated_gradients_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_rows = trained(tmp_path / "a", monkeypatch, 2)
    without = trained(tmp_path / "b", monkeypatch, 10**6)
    assert without.abs().max() > 1e-2
    torch.testing.assert_close(with_rows, without, rtol=0, atol=1e-4)

"""GradDrop with one decision for a batch: against the algorithm written image by image."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor

from mtl_core import Branch, EncoderGradients, Experiment, MtlError, RunFolder, Shaped, make_fabric
from mtl_core.testing import (
    Hooks,
    StubBackbone,
    ToyData,
    ToyLabels,
    ToyNetwork,
    Trainer,
    encoder_gradients,
    entering,
    make_step,
    make_tasks,
    prepare,
    random_rows,
)
from mtl_torchjd import TorchJD
from mtl_torchjd.graddrop import _drop_by_batch

D = torch.float64
N = 4
SHAPE = (3, 2, 2)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def written_out(rows: Tensor, z: Tensor, leak: Tensor, seed: int) -> Tensor:
    """Chen et al., Algorithm 1, entry by entry: input times gradient, the sum over the images, one mask for them."""
    m, n = rows.shape[:2]
    torch.manual_seed(seed)
    uniform = torch.rand(rows[0, 0].shape, dtype=D)
    result = torch.zeros_like(rows[0])
    for place in torch.cartesian_prod(*(torch.arange(size) for size in rows.shape[2:])).tolist():
        at = tuple(place)
        sums = [sum(torch.sign(z[i][at]) * rows[t, i][at] for i in range(n)) for t in range(m)]
        size = sum(abs(s) for s in sums)
        purity = 0.5 * (1 + sum(sums) / size)
        for t in range(m):
            kept = (purity > uniform[at] and sums[t] > 0) or (purity < uniform[at] and sums[t] < 0)
            for i in range(n):
                result[(i, *at)] += (leak[t] + (1 - leak[t]) * kept) * rows[t, i][at]
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("leak", [(0.0, 0.0, 0.0), (0.1, 0.0, 1.0)])
def test_is_the_algorithm_of_the_paper(seed: int, leak: tuple[float, ...]) -> None:
    rows = drawn(seed, 3, N, *SHAPE)
    z = drawn(seed + 10, N, *SHAPE)
    shares = torch.tensor(leak, dtype=D)
    torch.manual_seed(seed)
    found = _drop_by_batch(rows, z, shares)
    torch.testing.assert_close(found, written_out(rows, z, shares, seed))


def one_label_per_image() -> tuple[EncoderGradients, Tensor, Tensor]:
    """Gradients of four images, each of which has one task's label."""
    rows = drawn(0, 3, N, *SHAPE)
    z = drawn(1, N, *SHAPE)
    owner = torch.arange(N) % 3
    rows = torch.where((owner == torch.arange(3)[:, None])[:, :, None, None, None], rows, torch.zeros_like(rows))
    made = encoder_gradients(rows.flatten(1)[:, :24], step=make_step(make_tasks()))
    assert made.step is not None
    step = attrs.evolve(made.step, features=z)
    branches: tuple[Branch, ...] = tuple((row,) for row in rows)
    flat = rows.flatten(1)
    return attrs.evolve(made, branches=branches, gramian=flat @ flat.T, step=step), rows, z


def entered(gradients: EncoderGradients, **options: object) -> Tensor:
    hooks = Hooks({"plugin": TorchJD(aggregator="GradDrop", **options)}, required=())  # type: ignore[arg-type]
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: None)
    answer = hooks.shape_encoder_gradient(gradients)
    assert isinstance(answer, Shaped)
    return entering(gradients, answer.weights)


def test_with_one_label_per_image_entries_never_meet_and_batches_do() -> None:
    gradients, rows, _ = one_label_per_image()
    plain = rows.sum(0).flatten()
    torch.testing.assert_close(entered(gradients), plain)
    dropped = entered(gradients, graddrop="batch")
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], plain[kept])  # an image's gradient enters whole, or not
    assert 0.2 < kept.double().mean() < 0.9


def test_a_mask_is_the_same_for_all_images() -> None:
    gradients, _, _ = one_label_per_image()
    kept = (entered(gradients, graddrop="batch") != 0).view(N, *SHAPE)
    assert torch.equal(kept[0], kept[3])  # both are the first task's


def test_a_task_that_leaks_enters_whole() -> None:
    gradients, rows, _ = one_label_per_image()
    leaking = entered(gradients, graddrop="batch", settings={"leak": (1.0, 1.0, 1.0)})
    torch.testing.assert_close(leaking, rows.sum(0).flatten())


def test_draws_by_the_step() -> None:
    gradients, _, _ = one_label_per_image()
    assert gradients.step is not None
    later = attrs.evolve(gradients, step=attrs.evolve(gradients.step, shared=torch.Generator().manual_seed(9)))
    assert torch.equal(entered(gradients, graddrop="batch"), entered(gradients, graddrop="batch"))
    assert not torch.equal(entered(gradients, graddrop="batch"), entered(later, graddrop="batch"))


def test_nan_stays_nan() -> None:
    gradients, _, _ = one_label_per_image()
    bad = attrs.evolve(gradients, gramian=torch.full((3, 3), torch.nan))
    assert entered(bad, graddrop="batch").isnan().all()


def test_a_level_of_a_pyramid_that_nobody_uses_stays_out() -> None:
    gradients, rows, z = one_label_per_image()
    assert gradients.step is not None
    branches = tuple((row[:, :1], None, row[:, 1:]) for row in rows)
    step = attrs.evolve(gradients.step, features=(z[:, :1], z, z[:, 1:]))
    pyramid = attrs.evolve(gradients, branches=branches, step=step)
    hooks = Hooks({"plugin": TorchJD(aggregator="GradDrop", graddrop="batch")}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: None)
    answer = hooks.shape_encoder_gradient(pyramid)
    assert isinstance(answer, Shaped)
    assert [None if level is None else level.shape[1] for level in answer.weights] == [1, None, 2]


def test_needs_the_features() -> None:
    with pytest.raises(MtlError, match='graddrop = "batch" needs the features'):
        entered(encoder_gradients(random_rows(3)), graddrop="batch")


def test_trains(tmp_path: object) -> None:
    plugins = [ToyData(), ToyLabels(), ToyNetwork(), TorchJD(aggregator="GradDrop", graddrop="batch")]
    experiment = Experiment(name="t", epochs=2, batch_size=4, validation=0.0, device="cpu", plugins=plugins)
    trainer = Trainer(prepare(experiment), make_fabric(experiment), RunFolder(tmp_path))  # type: ignore[arg-type]
    before = [p.clone() for p in trainer.step.network.backbone.parameters()]
    trainer.fit()
    assert [record["skipped_steps"] for record in RunFolder(tmp_path).history()] == [0, 0]  # type: ignore[arg-type]
    after = list(trainer.step.network.backbone.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))

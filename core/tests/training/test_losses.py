"""From (B, K) to one loss per task, against sums written out."""

import pytest
import torch

from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.losses import global_term, sample_losses, task_losses

LOSSES = torch.tensor([[2.0, 3.0, 0.0], [0.0, 5.0, 0.0], [7.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
LABELLED = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [("sample", [(2 / 2 + 7) / 4, (3 / 2 + 5) / 4, 0]), ("task", [4.5, 4, 0]), ("none", [9 / 4, 8 / 4, 0])],
)
def test_losses_of_a_hand_made_batch(normalize: str, expected: list[float]) -> None:
    """Eq. 1 of JTR: mean over samples of (1/|T_x|) Σ L; a sample without any label counts in B."""
    found, means, active = task_losses(LOSSES, LABELLED, normalize)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(means, torch.tensor([4.5, 4, 0], dtype=torch.float64))
    assert active.tolist() == [True, True, False]


def test_a_pair_becomes_a_mean_and_an_empty_pair_zero() -> None:
    assert global_term((torch.tensor(6.0), torch.tensor(3))) == 2
    assert global_term((torch.tensor(0.0), torch.tensor(0))) == 0


def test_what_lies_under_the_mask_changes_nothing() -> None:
    tasks = Tasks([Segmentation(name="s", channels=3), Depth(name="d"), Normals(name="n")])
    predictions = {t.name: torch.randn(2, t.channels, 4, 4, requires_grad=True) for t in tasks}
    targets = {"s": torch.zeros(2, 4, 4, dtype=torch.long), "d": torch.ones(2, 1, 4, 4), "n": torch.ones(2, 3, 4, 4)}
    labelled = torch.tensor([[True, False, True], [False, True, False]])
    clean = sample_losses(tasks, predictions, targets, labelled)
    targets["d"][0], targets["n"][1] = float("nan"), float("inf")
    dirty = sample_losses(tasks, predictions, targets, labelled)
    torch.testing.assert_close(clean, dirty, rtol=0, atol=0)
    dirty.sum().backward()
    assert all(p.grad.isfinite().all() for p in predictions.values())

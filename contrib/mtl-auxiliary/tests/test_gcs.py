"""GCS: cosines taken here from the rows themselves, in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_auxiliary import GCS
from mtl_auxiliary.gcs import similarity_weights
from mtl_core import MtlError
from mtl_core.testing import (
    GradientShaperContract,
    Hooks,
    StubBackbone,
    encoder_gradients,
    entering,
    make_tasks,
    random_rows,
)

FIRST = torch.tensor([True, False, False])


class TestUnweighted(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> GCS:
        return GCS(primary="segmentation")


class TestWeightedWithTwoPrimaries(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> GCS:
        return GCS(primary=("segmentation", "normals"), variant="weighted")


def cosine(a: Tensor, b: Tensor) -> float:
    x = a.numpy()
    y = b.numpy()
    return float(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y)))


def entered(rows: Tensor, **options: object) -> Tensor:
    """What the plugin lets into the encoder."""
    tasks = make_tasks()
    hooks = Hooks({"gcs": GCS(**options)}, required=())
    hooks.setup(tasks, (8, 8), StubBackbone(width=4), lambda name: None)
    gradients = encoder_gradients(rows, tasks)
    return entering(gradients, hooks.shape_encoder_gradient(gradients))


def conflicting() -> Tensor:
    """The second row agrees with the first, the third does not."""
    b = random_rows(3)
    return torch.stack((b[0], b[1] + 2 * b[0], b[2] - 2 * b[0]))


def test_an_auxiliary_that_agrees_enters_whole_and_one_that_does_not_stays_out() -> None:
    b = conflicting()
    assert cosine(b[0], b[1]) > 0 > cosine(b[0], b[2])
    torch.testing.assert_close(entered(b, primary="segmentation"), b[0] + b[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_weighted_is_the_cosine_where_it_is_positive(seed: int) -> None:
    b = random_rows(3, seed=seed)
    expected = b[0] + sum(max(0.0, cosine(b[0], b[k])) * b[k] for k in (1, 2))
    found = entered(b, primary="segmentation", variant="weighted")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_several_primaries_are_compared_by_their_sum(seed: int) -> None:
    b = random_rows(3, seed=seed)
    lead = b[0] + b[2]
    expected = lead + max(0.0, cosine(lead, b[1])) * b[1]
    found = entered(b, primary=("segmentation", "normals"), variant="weighted")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_what_enters_never_goes_against_the_primary_gradient() -> None:
    for seed in range(20):
        b = random_rows(3, seed=seed)
        for variant in ("unweighted", "weighted"):
            assert entered(b, primary="segmentation", variant=variant) @ b[0] >= b[0] @ b[0]


@pytest.mark.parametrize("variant", ["unweighted", "weighted"])
def test_without_a_primary_branch_auxiliaries_enter_as_they_are(variant: str) -> None:
    b = conflicting()
    b[0] = 0
    torch.testing.assert_close(entered(b, primary="segmentation", variant=variant), b[1] + b[2])


def test_an_orthogonal_auxiliary_stays_out() -> None:
    b = torch.eye(3, 24, dtype=torch.float64)
    assert torch.equal(entered(b, primary="segmentation"), b[0])


def test_the_variants_differ() -> None:
    g = conflicting() @ conflicting().T
    plain, weighted = (similarity_weights(g, FIRST, variant) for variant in ("unweighted", "weighted"))
    assert plain.tolist() == [1, 1, 0]
    assert 0 < weighted[1] < 1


def test_an_unknown_primary_names_the_nearest_task() -> None:
    with pytest.raises(MtlError, match=r"gcs#2\.primary: .*'dept'; did you mean \"depth\"\?.*segmentation"):
        GCS(primary=("normals", "dept")).setup(name="gcs#2", tasks=make_tasks())


@pytest.mark.parametrize("options", [{"primary": ""}, {"primary": ()}, {"variant": "soft"}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GCS(**{"primary": "depth"} | options)

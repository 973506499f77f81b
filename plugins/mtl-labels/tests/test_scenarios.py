"""Label scenarios: shares, seeds, and where a scenario makes no sense.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_core import MtlError, Regression, Tasks
from mtl_labels import Full, HalfLabels, OneLabel, RandomLabels, Unlabelled
from mtl_labels.draws import _with_counts

SCENARIOS: dict[str, Any] = {
    "full": Full(),
    "onelabel": OneLabel(),
    "randomlabels": RandomLabels(),
    "halflabels": HalfLabels(),
    "unlabelled": Unlabelled(),
    "unlabelled, randomlabels": Unlabelled(share=0.3, rest="randomlabels"),
}
NUMBERS = {"full": {3}, "onelabel": {1}, "randomlabels": {1, 2}, "halflabels": {1, 2}}
"""How many of three labels a sample may have."""
DRAWN = [name for name in SCENARIOS if name != "full"]


def tasks(k: int) -> Tasks:
    return Tasks([Regression(name=f"t{i}", channels=1) for i in range(k)])


def mask(plugin: Any, size: int, k: int, seed: int = 0) -> Tensor:
    given = {"size": size, "tasks": tasks(k), "generator": torch.Generator().manual_seed(seed), "names": None}
    taken = inspect.signature(plugin.make_label_mask).parameters
    made: Tensor = plugin.make_label_mask(**{name: given[name] for name in taken})
    return made


def shares(mask: Tensor) -> tuple[int, int]:
    """The fewest and the most labels that a task has."""
    return int(mask.sum(0).min()), int(mask.sum(0).max())


case = given(size=st.integers(1, 200), k=st.integers(2, 9), seed=st.integers(0, 2**31))
quick = settings(max_examples=40, deadline=None)  # a slow machine is no reason to fail


@quick
@case
def test_one_label_gives_each_sample_one_and_each_task_its_share(size: int, k: int, seed: int) -> None:
    found = mask(OneLabel(), size, k, seed)
    assert found.sum(1).eq(1).all()
    assert shares(found) == (size // k, -(-size // k))


@quick
@case
def test_random_labels_share_numbers_and_tasks(size: int, k: int, seed: int) -> None:
    found = mask(RandomLabels(), size, k, seed)
    numbers = found.sum(1).bincount(minlength=k + 1)
    assert numbers[0] == numbers[k] == 0
    assert numbers[1:k].max() - numbers[1:k].min() <= 1
    assert shares(found)[1] - shares(found)[0] <= 1


@quick
@case
def test_half_labels_share_numbers_and_tasks(size: int, k: int, seed: int) -> None:
    found = mask(HalfLabels(), size, k, seed)
    numbers = found.sum(1).bincount(minlength=k + 1)[sorted({k // 2, (k + 1) // 2})]
    assert numbers.sum() == size
    assert numbers.max() - numbers.min() <= 1
    assert shares(found)[1] - shares(found)[0] <= 1


@quick
@given(counts=st.lists(st.integers(0, 6), max_size=60), seed=st.integers(0, 2**31))
def test_any_counts_are_kept_and_shared(counts: list[int], seed: int) -> None:
    found = _with_counts(torch.tensor(counts, dtype=torch.long), 6, torch.Generator().manual_seed(seed))
    assert found.sum(1).tolist() == counts
    assert shares(found)[1] - shares(found)[0] <= 1


@pytest.mark.parametrize(("k", "expected"), [(2, {1}), (3, {1, 2}), (4, {2}), (7, {3, 4})])
def test_half_of_the_tasks(k: int, expected: set[int]) -> None:
    assert set(mask(HalfLabels(), 100, k).sum(1).tolist()) == expected


@quick
@given(size=st.integers(1, 100), share=st.floats(0, 1), rest=st.sampled_from(list(NUMBERS)))
def test_unlabelled_leaves_a_share_without_any_label(size: int, share: float, rest: Any) -> None:
    found = mask(Unlabelled(share=share, rest=rest), size, 3)
    labelled = found[found.any(1)]
    assert abs((size - len(labelled)) - size * share) <= 0.5
    assert set(labelled.sum(1).tolist()) <= NUMBERS[rest]
    assert shares(labelled)[1] - shares(labelled)[0] <= 1


@pytest.mark.parametrize("name", DRAWN)
def test_the_generator_alone_decides(name: str) -> None:
    torch.manual_seed(1)
    first = mask(SCENARIOS[name], 30, 3, seed=4)
    torch.manual_seed(2)
    assert torch.equal(first, mask(SCENARIOS[name], 30, 3, seed=4))
    assert not torch.equal(first, mask(SCENARIOS[name], 30, 3, seed=5))


@pytest.mark.parametrize("name", DRAWN)
def test_no_sample_and_no_task_is_preferred(name: str) -> None:
    """Over 400 seeds every (sample, task) is drawn about equally often: six standard deviations at most apart."""
    drawn = torch.stack([mask(SCENARIOS[name], 12, 3, seed) for seed in range(400)]).double()
    expected = drawn.mean()
    tolerance = 6 * (expected * (1 - expected) / 400).sqrt()
    assert (drawn.mean(0) - expected).abs().max() < tolerance


def test_samples_are_mixed() -> None:
    """Neighbours share a task about every third time, not in a fixed order."""
    order = mask(OneLabel(), 300, 3).long().argmax(1).tolist()
    same = sum(a == b for a, b in pairwise(order))
    assert 60 < same < 140


def test_one_task() -> None:
    assert mask(OneLabel(), 5, 1).all()
    assert mask(Full(), 5, 1).all()
    assert mask(Unlabelled(share=0.4, rest="full"), 5, 1).sum() == 3


@pytest.mark.parametrize(
    ("plugin", "name"),
    [
        (RandomLabels(), "randomlabels"),
        (HalfLabels(), "halflabels"),
        (Unlabelled(rest="randomlabels"), "randomlabels"),
    ],
    ids=repr,
)
def test_leaving_labels_out_needs_two_tasks(plugin: Any, name: str) -> None:
    with pytest.raises(MtlError, match=rf"^{name}: .*one task \(t0\); use full or unlabelled"):
        mask(plugin, 10, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "'share' must be <= 1"),
        ({"share": -0.1}, "'share' must be >= 0"),
        ({"rest": "unlabelled"}, "'rest' must be in"),
        ({"rest": "split-file"}, r'rest is "split-file" and there is no path'),
        ({"path": "a.csv"}, r"rest is \"onelabel\" and path is 'a.csv'"),
        ({"rest": "split-file", "path": "a.npy", "columns": ("t0", "t0")}, "every column once"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Unlabelled(**options)

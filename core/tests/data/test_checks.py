"""Typical mistakes in a data set each give one line: task, what was found, what is expected, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core.commands.train import train
from mtl_core.data.checks import check_samples
from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.errors import DataError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyLabels, ToyNetwork

SIZE = (8, 12)
Change = Callable[[Sample], Any]


class Changed(Shapes):
    def __init__(self, change: Change, first: int = 0, **attributes: Any) -> None:
        super().__init__(4, SIZE, "train")
        self.change = change
        self.first = first
        vars(self).update(attributes)

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        return self.change(sample) if index >= self.first else sample


def image(change: Callable[[Any], Any]) -> Change:
    return lambda sample: Sample(change(sample.image), sample.targets)


def label(task: str, change: Callable[[Any], Any]) -> Change:
    return lambda sample: Sample(sample.image, sample.targets | {task: change(sample.targets[task])})


def without(task: str) -> Change:
    return lambda sample: Sample(sample.image, {n: t for n, t in sample.targets.items() if n != task})


def same(sample: Sample) -> Sample:
    return sample


def with_edges(sample: Sample) -> Sample:
    return Sample(sample.image, {"edges": 255 * (sample.image[:1] > 0.5).float()})


FULL = torch.full
MISTAKES = {
    "a pair": (Changed(lambda s: (s.image, s.targets)), "found a tuple, expected a Sample"),
    "numpy image": (Changed(image(lambda x: x.numpy())), "image: found a ndarray, expected a torch tensor"),
    "channels last": (Changed(image(lambda x: x.permute(1, 2, 0))), r"\(8, 12, 3\).*image.permute"),
    "grey": (Changed(image(lambda x: x[:1])), r"\(1, 8, 12\), expected \(3, H, W\); convert it to RGB"),
    "0 to 255": (Changed(image(lambda x: 255 * x)), "expected 0 to 1; divide by 255"),
    "normalised": (Changed(image(lambda x: 4 * x - 2)), "leave out mean and deviation"),
    "double": (Changed(image(lambda x: x.double())), "image: found torch.float64"),
    "NaN image": (Changed(image(lambda x: x * torch.nan)), "image: found values that are not finite"),
    "wrong name": (
        Changed(lambda s: Sample(s.image, s.targets | {"normal": s.image})),
        "found a label for 'normal'; did you mean \"normals\"",
    ),
    "absent": (Changed(without("depth")), "depth: found no label, expected one; .*labelled"),
    "numpy label": (Changed(label("depth", lambda x: x.numpy())), "depth: found a ndarray, expected a torch tensor"),
    "uint8 mask": (
        Changed(label("segmentation", lambda x: x.to(torch.uint8))),
        "segmentation: found torch.uint8, expected torch.int64; convert",
    ),
    "classes with a channel": (Changed(label("segmentation", lambda x: x[None])), "segmentation: .*label\\[0\\]"),
    "depth without channel": (
        Changed(label("depth", lambda x: x[0])),
        r"depth: .*\(1, 8, 12\).*label\[None\]",
    ),
    "normals channels last": (Changed(label("normals", lambda x: x.permute(1, 2, 0))), "normals: .*label.permute"),
    "label's size": (Changed(label("depth", lambda x: x[:, :4])), "depth: .*resize the label to the image's 8 × 12"),
    "255": (Changed(label("segmentation", lambda x: FULL(SIZE, 255))), "found class 255, .*write −1, not 255"),
    "above the classes": (Changed(label("segmentation", lambda x: x + 2)), "found class 5, expected at most 3"),
    "coded normals": (Changed(label("normals", lambda x: 127 * x + 128)), "normals: found normals of length"),
    "edges of 255": (Changed(with_edges, tasks=Tasks([BinaryEdges(name="edges")])), "edges: found values 0 to 255"),
    "depth all NaN": (Changed(label("depth", lambda x: x * torch.nan)), "depth: found no valid pixel in 4 labels"),
    "mask of floats": (Changed(same, labelled=torch.ones(4, 3)), "labelled: found torch.float32 .*bool"),
    "mask of another form": (Changed(same, labelled=torch.ones(4, 2).bool()), r"expected torch.bool \(4, 3\)"),
    "mask in numpy": (Changed(same, labelled=torch.ones(4, 3).bool().numpy()), "labelled: found a ndarray"),
    "too few names": (Changed(same, names=["a", "b"]), "names: found 2, expected 4"),
    "a name twice": (Changed(same, names=["a", "b", "a", "c"]), "names: found a name twice"),
    "no sample": (Changed(same, samples=0), "found no sample"),
    "sizes differ": (
        Changed(lambda s: Sample(s.image[:, :4], {n: t[..., :4, :] for n, t in s.targets.items()}), first=1),
        "image: found 4 × 12 pixels, expected 8 × 12",
    ),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_one_line(name: str) -> None:
    dataset, expected = MISTAKES[name]
    with pytest.raises(DataError) as caught:
        check_samples(dataset, "my data", others=3)
    message = str(caught.value)
    assert re.search(expected, message), message
    assert message.startswith("my data")
    assert "\n" not in message
    assert len(message) < 300


def test_sound_data_pass() -> None:
    check_samples(Changed(same), "my data")


def test_the_sample_is_named() -> None:
    bad = Changed(image(lambda x: 255 * x), first=2, names=["a", "b", "c", "d"])
    with pytest.raises(DataError, match=r"my data, sample 2 \(c\): image: "):
        check_samples(bad, "my data", others=4)


def test_what_the_mask_withholds_may_be_absent_or_without_a_valid_pixel() -> None:
    mask = torch.tensor([[True, False, True]] * 4)
    check_samples(Changed(without("depth"), labelled=mask), "my data")
    check_samples(Changed(label("depth", torch.zeros_like), labelled=mask), "my data")
    with pytest.raises(DataError, match="depth: found shape"):
        check_samples(Changed(label("depth", lambda x: x[0]), labelled=mask), "my data")


@plugin
class Mistaken:
    """Data with 255 where they have no label."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return MISTAKES["255"][0]


def test_training_checks_its_data_before_the_first_step(tmp_path: Path) -> None:
    experiment = Experiment(
        name="x", plugins={"m": Mistaken(), "l": ToyLabels(), "n": ToyNetwork()}, epochs=1, batch_size=2
    )
    with pytest.raises(DataError, match=r'^plugin "m", training data, sample 0: segmentation: found class 255'):
        train(experiment, tmp_path / "run")


def test_depth_with_an_invalid_value_is_no_mistake() -> None:
    assert Depth(name="d").problems(torch.tensor([[[0.0, torch.nan, 2.0]]]), (1, 3)) == []


def test_labels_that_the_run_withholds_are_not_looked_at() -> None:
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[:, 1] = False
    data = Changed(without("depth"))
    check_samples(data, "my data", labelled=mask)
    mask[3, 1] = True
    with pytest.raises(DataError, match="sample 3: depth: found no label, expected one"):
        check_samples(data, "my data", others=0, labelled=mask)

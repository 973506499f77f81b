"""The tables of pseudo-tasks: every mistake is reported with its place."""

from __future__ import annotations

from typing import Any

import pytest

from mtl_core import parse_experiment
from mtl_pseudo import Pseudo
from mtl_pseudo.specs import spec_of

GOOD: dict[str, Any] = {"model": "timm:resnet50", "weights": "a.pth"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": 1}, 'coco.modle: unknown; did you mean "model"?'),
        ({"model": "resnet50"}, 'coco.model: expected "torchvision:NAME", "timm:NAME"'),
        ({"model": "keras:resnet50"}, 'found "keras:resnet50"'),
        ({"model": 3}, "coco.model: expected text, found 3"),
        ({"weights": ""}, "coco.weights: missing; expected a local file"),
        ({"labels": "mask"}, 'coco.labels: expected one of masks, soft, tokens, found "mask"; did you mean "masks"?'),
        ({"labels": "tokens", "model": "torchvision:resnet50"}, "token labels are made by models of timm"),
        ({"score": 1.5}, "coco.score: expected a probability, 0 to 1, found 1.5"),
        ({"score": True}, "coco.score: expected a probability"),
        ({"size": [224]}, "coco.size: expected [height, width] in pixels, found [224]"),
        ({"size": [0, 4]}, "coco.size: expected [height, width]"),
        ({"mean": [0.5]}, "coco.mean: expected three numbers"),
        ({"top": 0}, "coco.top: expected a whole number, at least 1, found 0"),
        ({"tasks": "depth"}, "coco.tasks: expected a list of names"),
        ({"model": "smp:unet:resnet18"}, "coco.classes: missing; expected the number of classes"),
        ({"model": "run:runs/a"}, "coco.weights: a run has its own; leave it out"),
        ({"checkpoint": "first"}, "coco.checkpoint: expected last or best"),
    ],
)
def test_a_wrong_table(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
        spec_of("coco", GOOD | change)
    assert message in str(caught.value)


def test_a_name_that_no_task_can_have() -> None:
    with pytest.raises(ValueError, match="expected the name of a task"):
        spec_of("coco-80", GOOD)


def test_every_mistake_of_every_table_is_told() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Pseudo(of="toydata", sources={"a": {"weights": "x", "top": 0}, "b": {"model": "timm:x"}})
    for part in ("a.top: expected a whole number", "a.model: missing", "b.weights: missing"):
        assert part in str(caught.value)


def test_no_table() -> None:
    with pytest.raises(ValueError, match="expected a table for each pseudo-task"):
        Pseudo(of="toydata", sources={})


def test_it_comes_from_a_file_and_goes_back() -> None:
    from mtl_core import dump_experiment

    text = """
name = "e"
[plugins.pseudo]
of = "toydata"
data = { samples = 5, size = [16, 16] }
folder = "labels"
[plugins.pseudo.sources.coco]
model = "torchvision:maskrcnn_resnet50_fpn"
weights = "coco.pth"
score = 0.7
[plugins.pseudo.sources.imagenet]
model = "timm:resnet50"
weights = "resnet50.pth"
size = [224, 224]
[plugins.toynetwork]
"""
    made = parse_experiment(text, "a.toml")
    again = parse_experiment(dump_experiment(made), "b.toml")
    for experiment in (made, again):
        plugin: Any = experiment.plugins["pseudo"]
        assert plugin.data == {"samples": 5, "size": [16, 16]}
        assert list(plugin.sources) == ["coco", "imagenet"]
        assert (plugin.sources["coco"]["score"], plugin.folder, plugin.batch_size) == (0.7, "labels", 8)
    assert list(again.plugins) == ["pseudo", "toynetwork"]

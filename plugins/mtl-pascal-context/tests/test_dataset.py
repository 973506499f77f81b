"""What samples hold: the files' values in the size that is asked for, and which labels there are."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mtl_core import DataError
from mtl_pascal_context import PascalContext, present
from mtl_pascal_context.boundaries import benchmark_edges, training_edges
from mtl_pascal_context.labels import read_label_map
from mtl_pascal_context.placing import _MEAN_COLOUR, place

Raw = Callable[[int], Any]
OWN = (24, 32)


def opened(root: Path, split: str = "train", **options: Any) -> Any:
    return PascalContext(**{"root": str(root), "size": OWN, **options}).build_dataset(split)


def test_values_are_what_the_files_say(tree: Path, raw: Raw) -> None:
    data = opened(tree)
    files = raw(0)
    sample = data[0]
    assert sample.image.dtype == torch.uint8
    assert (sample.image.permute(1, 2, 0).float() - torch.from_numpy(files.image)).abs().mean() < 3  # JPEG
    classes = files.classes.astype(int)
    assert sample.targets["segmentation"].tolist() == np.where(classes == 255, -1, classes).tolist()
    parts = sample.targets["parts"]
    assert parts[6:18, 16:24].unique().tolist() == [1, 2, 6]
    assert [int(parts[row, 20]) for row in (5, 6, 9, 10, 16, 17, 18)] == [0, 1, 1, 2, 2, 6, 0]
    assert sample.targets["saliency"].tolist() == (files.saliency > 127).astype(int).tolist()
    assert sample.targets["edges"][0].tolist() == training_edges(files.label_map).astype(float).tolist()
    normals = sample.targets["normals"]
    known = np.isin(files.label_map, (440, 284, 59))
    assert (normals.norm(dim=0) > 0.5).numpy().tolist() == known.tolist()
    published = files.normals.astype(float) / 127.5 - 1
    assert np.abs(normals.permute(1, 2, 0).numpy() - published * (1, 1, -1))[known].max() < 0.01
    assert (normals[2] < 0).numpy()[known].mean() > 0.99  # towards the camera


def test_order_and_names_are_the_lists(tree: Path) -> None:
    assert opened(tree).names == ["2008_000002", "2008_000003", "2010_004365"]
    assert opened(tree, "test").names == ["2008_000008", "2009_000010"]


def test_classes_of_either_folder(tree: Path, raw: Raw) -> None:
    """VOC12's file counts where both have one."""
    shutil.copy(tree / "semseg/pascal-context/2008_000003.png", tree / "semseg/pascal-context/2008_000002.png")
    data = opened(tree, tasks=("segmentation",))
    assert data[0].targets["segmentation"].unique().tolist() == [-1, 0, 7, 15]
    assert data[1].targets["segmentation"].unique().tolist() == [-1, 0, 7]


def test_classes_of_the_label_map(tree: Path, raw: Raw) -> None:
    """The same, but for what is void in the pictures."""
    pictured = opened(tree, tasks=("segmentation",))[0].targets["segmentation"]
    shutil.rmtree(tree / "semseg")
    mapped = opened(tree, tasks=("segmentation",))[0].targets["segmentation"]
    assert torch.equal(mapped[pictured >= 0], pictured[pictured >= 0])
    assert (mapped >= 0).all()


def test_squeezing_changes_proportions_and_no_class(tree: Path) -> None:
    own = opened(tree)[0]
    wide = opened(tree, size=(24, 64))[0]
    assert torch.equal(wide.targets["parts"], own.targets["parts"].repeat_interleave(2, 1))
    assert torch.equal(wide.targets["saliency"], own.targets["saliency"].repeat_interleave(2, 1))
    assert torch.equal(wide.targets["edges"], own.targets["edges"].repeat_interleave(2, 2))
    assert wide.image.shape == (3, 24, 64)
    assert opened(tree)[2].image.shape == (3, 24, 32)  # an upright image


def test_padding_leaves_pixels_as_they_are(tree: Path) -> None:
    own = opened(tree)[0]
    padded = opened(tree, size=(31, 40), resize="pad")[0]
    inside = (..., slice(3, 27), slice(4, 36))
    assert torch.equal(padded.image[inside], own.image)
    for name, label in own.targets.items():
        assert torch.equal(padded.targets[name][inside], label), name
    margin = torch.ones(31, 40, dtype=torch.bool)
    margin[inside] = False
    assert padded.image[:, margin].unique(dim=1).flatten().tolist() == list(_MEAN_COLOUR)
    assert (padded.targets["segmentation"][margin] == -1).all()
    assert (padded.targets["parts"][margin] == -1).all()
    assert (padded.targets["saliency"][margin] == -1).all()
    assert padded.targets["edges"][0][margin].isnan().all()
    assert (padded.targets["normals"][:, margin] == 0).all()


@pytest.mark.parametrize(
    ("own", "size", "inner", "margins"),
    [
        ((375, 500), (512, 512), (375, 500), (6, 6, 68, 69)),
        ((500, 333), (512, 512), (500, 333), (89, 90, 6, 6)),
        ((375, 500), (128, 128), (96, 128), (0, 0, 16, 16)),
        ((1, 500), (10, 10), (1, 10), (0, 0, 4, 5)),
    ],
)
def test_where_padding_puts_an_image(own: Any, size: Any, inner: Any, margins: Any) -> None:
    placement = place(own, size, "pad")
    assert (placement.inner, placement.margins) == (inner, margins)


def test_shrunk_edges_are_those_of_the_shrunk_map(tree: Path, raw: Raw) -> None:
    """Every second pixel of a one pixel's line would leave half of it, or nothing."""
    found = opened(tree, size=(12, 16))[0].targets["edges"][0]
    small = torch.from_numpy(raw(0).label_map.astype(int))[1::2, 1::2].numpy()
    assert found.tolist() == training_edges(small).astype(float).tolist()
    assert found.sum() > 20


def test_edges_of_the_test_split_are_the_benchmarks(tree: Path) -> None:
    """A reader of both splits of one image: its map's lines lie half a pixel up and left in the test split."""
    lists = tree / "ImageSets" / "Context"
    shutil.copy(lists / "train.txt", lists / "val.txt")
    label_map = opened(tree, tasks=("edges",), cache=False).files[0].label_map
    values = read_label_map(label_map)
    assert opened(tree, "train")[0].targets["edges"][0].tolist() == training_edges(values).astype(float).tolist()
    assert opened(tree, "test")[0].targets["edges"][0].tolist() == benchmark_edges(values).astype(float).tolist()
    wide = opened(tree, "test", size=(48, 32))[0].targets["edges"][0]
    assert wide.tolist() == benchmark_edges(values.repeat(2, 0)).astype(float).tolist()


def test_a_label_of_the_same_proportions_is_resized(tree: Path) -> None:
    path = tree / "sal_distill" / "2008_000002.png"
    own = opened(tree, tasks=("saliency",))[0].targets["saliency"]
    Image.open(path).resize((64, 48), Image.Resampling.NEAREST).save(path)
    assert torch.equal(opened(tree, tasks=("saliency",))[0].targets["saliency"], own)


def test_tasks_come_in_the_order_of_the_option(tree: Path) -> None:
    data = opened(tree, tasks=("edges", "segmentation"))
    assert data.tasks.names == tuple(data[0].targets) == ("edges", "segmentation")


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_other_sample(tree: Path, index: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        opened(tree)[index]


def test_images_without_a_label_are_in_the_mask(tree: Path) -> None:
    data = opened(tree)
    assert data.labelled.tolist() == [[True] * 5, [True, False, True, True, True], [True] * 5]
    assert (data[1].targets["parts"] == -1).all()
    assert opened(tree, tasks=("saliency", "parts")).labelled.tolist() == [[True, True], [True, False], [True, True]]
    assert opened(tree, tasks=("segmentation", "edges")).labelled is None


def test_an_image_without_normals_is_in_the_mask(tree: Path) -> None:
    path = tree / "pascal-context" / "trainval" / "2008_000003.mat"
    savemat(path, {"LabelMap": np.full(OWN, 360, np.uint16)})
    data = opened(tree, tasks=("normals",))
    assert data.labelled.tolist() == [[True], [False], [True]]
    assert (data[1].targets["normals"] == 0).all()


def test_which_labels_there_are_is_found_once(
    tree: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, write_parts: Callable[..., None]
) -> None:
    first = opened(tree, tasks=("parts",)).labelled
    (kept,) = (own_cache / "mtl" / "pascal-context").glob("*.json")
    assert json.loads(kept.read_text()) == [True, False, True]
    monkeypatch.setitem(present._RULES, "parts", lambda files: pytest.fail("read again"))
    assert torch.equal(opened(tree, tasks=("parts",)).labelled, first)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    inside = np.ones(OWN, bool)
    write_parts(tree / "human_parts" / "2008_000003.mat", [("person", 15, inside, [("head", inside)])])
    assert opened(tree, tasks=("parts",)).labelled.all()


@pytest.mark.parametrize("content", ["", "[true]", "{}", "no JSON"])
def test_what_is_kept_and_damaged_is_found_anew(tree: Path, own_cache: Path, content: str) -> None:
    opened(tree, tasks=("parts",))
    (kept,) = (own_cache / "mtl" / "pascal-context").glob("*.json")
    kept.write_text(content)
    assert opened(tree, tasks=("parts",)).labelled.flatten().tolist() == [True, False, True]
    assert json.loads(kept.read_text()) == [True, False, True]


def test_a_cache_folder_that_cannot_be_written(tree: Path, own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    own_cache.write_text("a file where the folder would be")
    with caplog.at_level(logging.WARNING, "mtl"):
        assert opened(tree, tasks=("parts",)).labelled.flatten().tolist() == [True, False, True]
    assert "which images have parts is not kept" in caplog.text


def test_a_broken_file_is_named_when_the_data_are_opened(tree: Path) -> None:
    path = tree / "human_parts" / "2010_004365.mat"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"2010_004365\.mat: cannot be read as a MATLAB file"):
        opened(tree, tasks=("parts",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": ""}, "root"),
        ({"tasks": ("edge",)}, "no task 'edge'; did you mean \"edges\""),
        ({"tasks": ()}, "at least one task"),
        ({"tasks": ("edges", "edges")}, "none twice"),
        ({"size": (0, 10)}, r"expected \[height, width\] in pixels, found \[0, 10\]"),
        ({"resize": "crop"}, "resize"),
        ({"loss_weights": "mine"}, "loss_weights"),
        ({"normals_axes": ("x", "y", "y")}, "expected x, y and z in some order"),
        ({"normals_axes": ("x", "y", "+z")}, "expected x, y and z in some order"),
        ({"edge_metric": "slow"}, "edge_metric"),
        ({"edge_metric": "dilated", "edge_suppression": False}, "is for thin lines: leave edge_suppression true"),
        ({"edge_tolerance": 0.0}, "edge_tolerance"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PascalContext(**{"root": "data", **options})

"""What samples hold: what the files say, brought to the form that an option asks for."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtl_core import DataError, Sample
from mtl_taskonomy import Taskonomy
from mtl_taskonomy.conventions import _blurred, resize_map
from mtl_taskonomy.domains import TASKS
from mtl_taskonomy.tasks import EncodedDepth

VIEW = ("hanson", 0, 0)
"""The first of the training data."""


def opened(root: Path, **options: Any) -> Any:
    return Taskonomy(root=str(root), **{"incomplete": True, **options}).build_dataset("train")


def label(root: Path, task: str, **options: Any) -> Tensor:
    target: Tensor = opened(root, tasks=(task,), **options)[0].targets[task]
    return target


@pytest.fixture
def raw(trees: SimpleNamespace) -> Any:
    """What a file of the first view holds, as float (…, H, W)."""

    def read(folder: str) -> Any:
        values = trees.draw(VIEW, folder).astype(np.float64)
        return values.transpose(2, 0, 1) if values.ndim == 3 else values[None]

    return read


def below(values: Any) -> Any:
    """Without the rows that have no geometry."""
    return np.asarray(values)[..., 2:, :]


def test_images_are_bytes(tree: Path, raw: Any) -> None:
    image = opened(tree)[0].image
    assert image.dtype == torch.uint8
    assert np.array_equal(image, raw("rgb"))


def test_classes_are_counted_from_0_and_uncertain_pixels_ignored(tree: Path, raw: Any) -> None:
    assert np.array_equal(label(tree, "segmentation"), raw("segment_semantic")[0] - 1)


@pytest.mark.parametrize(("task", "folder"), [("depth", "depth_zbuffer"), ("depth_euclidean", "depth_euclidean")])
def test_depth_is_in_metres_and_65535_is_missing(tree: Path, raw: Any, task: str, folder: str) -> None:
    found = label(tree, task)
    assert found[:, :2].eq(0).all()
    np.testing.assert_allclose(below(found), below(raw(folder)) / 512, rtol=1e-6)


def test_far_depth_is_missing_where_asked(tree: Path, raw: Any) -> None:
    metres = raw("depth_zbuffer") / 512
    found = label(tree, "depth", max_depth=8.0)
    np.testing.assert_allclose(found, np.where(metres < 8, metres, 0), rtol=1e-6)


@pytest.mark.parametrize("form", ["log", "standley"])
def test_depth_as_published_codes_train_it(tree: Path, raw: Any, form: Any) -> None:
    p = below(raw("depth_zbuffer"))
    expected = np.log(1 + p) / np.log(2.0**16) if form == "log" else (p - 1500) / 1000
    found = label(tree, "depth", depth=form)
    assert found[:, :2].isnan().all()
    np.testing.assert_allclose(below(found), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["log", "standley"])
def test_encoded_depth_zooms_as_metres_do(form: Any) -> None:
    task = EncodedDepth(name="depth", form=form)
    metres = torch.tensor([0.7, 2.0, 9.0])
    torch.testing.assert_close(
        task.to_metres(task.zoom(task.from_metres(metres), 1.5)), metres / 1.5, rtol=1e-4, atol=0
    )


def test_normals_are_unit_vectors_and_128_is_invalid(tree: Path, raw: Any) -> None:
    found = label(tree, "normals")
    assert found[:, :2].eq(0).all()
    vectors = below(raw("normal") - 127.5)
    np.testing.assert_allclose(below(found), vectors / np.linalg.norm(vectors, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("occlusion_edges", "edge_occlusion"), ("texture_edges", "edge_texture"), ("keypoints", "keypoints2d"),
        ("keypoints3d", "keypoints3d"),
    ],
)  # fmt: skip
def test_plain_strengths_are_shares_of_65535(tree: Path, raw: Any, task: str, folder: str) -> None:
    found = label(tree, task, convention="plain")
    np.testing.assert_allclose(below(found), below(raw(folder)) / 65535, rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "folder", "largest"), [("texture_edges", "edge_texture", 0.08), ("keypoints", "keypoints2d", 0.005)]
)
def test_taskonomy_clips_and_stretches(tree: Path, raw: Any, task: str, folder: str, largest: float) -> None:
    found = label(tree, task)
    expected = np.clip(raw(folder) / 65535 / largest, 0, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found == 1).any()
    assert (found < 1).any()


def test_ranges_may_be_others(tree: Path, raw: Any) -> None:
    """omnidata clamps texture edges at 0.25."""
    found = label(tree, "texture_edges", ranges={"texture_edges": 0.25})
    np.testing.assert_allclose(found, raw("edge_texture") / 65535 / 0.25, rtol=1e-5)


def test_occlusion_edges_are_blurred_after_resizing(tree: Path) -> None:
    plain = label(tree, "occlusion_edges", convention="plain", size=(12, 20))
    np.testing.assert_allclose(label(tree, "occlusion_edges", size=(12, 20)), _blurred(plain / 0.00625, 4 * 20 / 256))
    np.testing.assert_allclose(label(tree, "occlusion_edges", size=(12, 20), blur=0), (plain / 0.00625).clamp(max=1))


@pytest.mark.parametrize(
    ("task", "folder", "mean", "deviation"),
    [
        ("occlusion_edges", "edge_occlusion", 56.0248, 239.1265),
        ("keypoints", "keypoints2d", 50, 100),
        ("texture_edges", "edge_texture", 718, 1070),
        ("reshading", "reshading", 0.4962 * 255, 0.2846 * 255),
        ("principal_curvature", "principal_curvature", (0.5175 * 255, 0.4987 * 255), (0.1373 * 255, 0.0359 * 255)),
    ],
)
def test_standley_subtracts_a_mean_and_divides_by_a_deviation(
    tree: Path, raw: Any, task: str, folder: str, mean: Any, deviation: Any
) -> None:
    found = label(tree, task, convention="standley")
    mean, deviation = (np.reshape(x, (-1, 1, 1)) for x in (mean, deviation))
    np.testing.assert_allclose(
        below(found), below((raw(folder)[: len(found)] - mean) / deviation), rtol=1e-4, atol=1e-4
    )


def test_reshading_is_one_channel_of_0_to_1(tree: Path, raw: Any) -> None:
    found = label(tree, "reshading")
    np.testing.assert_allclose(below(found), below(raw("reshading")[:1]) / 255, rtol=1e-6)


def test_curvature_has_two_channels_with_0_where_flat(tree: Path, raw: Any) -> None:
    plain = label(tree, "principal_curvature", convention="plain")
    np.testing.assert_allclose(below(plain), below(raw("principal_curvature")[:2] - 127) / 128, rtol=1e-6)
    taskbank = (raw("principal_curvature")[:2] - np.reshape((123.572, 120.1), (2, 1, 1))) / np.reshape(
        (31.922, 21.658), (2, 1, 1)
    )
    np.testing.assert_allclose(below(label(tree, "principal_curvature")), below(taskbank), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", ["depth", "mask_valid", "none"])
def test_labels_from_the_mesh_are_masked(tree: Path, mask: Any) -> None:
    targets = opened(tree, tasks=TASKS, mask=mask)[0].targets
    for task in ("occlusion_edges", "reshading", "keypoints3d", "principal_curvature"):
        assert bool(targets[task][:, :2].isnan().all()) == (mask != "none"), task
        assert targets[task][:, 2:].isfinite().all(), task
    for task in ("texture_edges", "keypoints"):
        assert targets[task].isfinite().all()


def test_max_depth_masks_too(tree: Path, raw: Any) -> None:
    found = label(tree, "reshading", max_depth=8.0)
    assert np.array_equal(found.isfinite(), raw("depth_zbuffer") / 512 < 8)


def test_a_view_without_a_mask_is_told(tree: Path, trees: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    trees.file(tree, "buildings", VIEW, "depth_zbuffer").unlink()
    found = label(tree, "reshading")
    assert "1 of 6 views (train) have no file for mask = 'depth'" in capsys.readouterr().err
    assert found.isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_a_domain_that_a_view_lacks_is_a_missing_label(tree: Path, trees: SimpleNamespace, task: str) -> None:
    from mtl_taskonomy.domains import FOLDER_OF

    lacks = ("merom", 0, 0)
    trees.file(tree, "buildings", lacks, FOLDER_OF[task]).unlink()
    data = opened(tree, tasks=(task, "segmentation") if task != "segmentation" else (task, "depth"))
    assert data.labelled.tolist() == [[True, True]] * 4 + [[False, True]] + [[True, True]]
    kind = data.tasks[task]
    assert not kind.valid(data[4].targets[task][None]).any()
    assert kind.valid(data[3].targets[task][None]).any()
    assert data[4].targets[task].shape == data[3].targets[task].shape


def test_a_view_without_an_image_is_left_out(
    tree: Path, trees: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.file(tree, "buildings", ("hanson", 0, 1), "rgb").unlink()
    data = opened(tree)
    assert len(data) == 5
    assert "hanson/point_0_view_1" not in list(data.names)
    assert "(1 more have labels and no image)" in capsys.readouterr().err


def test_a_folder_of_labels_that_is_not_there_is_no_error(tree: Path) -> None:
    (tree / "hanson" / "normal").rename(tree / "hanson" / ".normal")
    assert opened(tree, tasks=("normals", "depth")).labelled[:, 0].tolist() == [False] * 4 + [True] * 2


def test_labels_of_any_size(tree: Path) -> None:
    sample: Sample = opened(tree, tasks=TASKS, size=(10, 14))[0]
    assert sample.image.shape == (3, 10, 14)
    assert {tuple(t.shape[-2:]) for t in sample.targets.values()} == {(10, 14)}
    assert sample.targets["normals"].norm(dim=0)[2:].allclose(torch.ones(8, 14), atol=1e-5)


def test_resizing_takes_the_mean_of_what_is_valid() -> None:
    values = torch.full((1, 8, 8), 3.0)
    values[:, :, :4] = math.nan
    small = resize_map(values, (4, 4))
    assert small.isfinite().all(1).tolist() == [[False, False, True, True]]
    assert small[small.isfinite()].allclose(torch.tensor(3.0))


def test_a_blur_keeps_a_plane_and_spreads_a_point() -> None:
    plane = torch.full((1, 30, 30), 2.0)
    plane[0, 4, 4] = math.nan
    found = _blurred(plane, 2.0)
    assert found[0, 4, 4].isnan()
    assert found[found.isfinite()].allclose(torch.tensor(2.0))
    point = torch.zeros(1, 61, 61)
    point[0, 30, 30] = 1.0
    spread = _blurred(point, 3.0)[0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert spread[30, 30].item() == pytest.approx(1 / (2 * math.pi * 9), rel=0.02)
    assert spread[30, 33].item() / spread[30, 30].item() == pytest.approx(math.exp(-0.5), rel=1e-3)


def test_every_file_is_in_the_list_for_the_cache(tree: Path, trees: SimpleNamespace) -> None:
    trees.file(tree, "buildings", VIEW, "normal").unlink()
    data = opened(tree, tasks=("normals", "texture_edges"))
    files = data.files()
    assert len(files) == 6 * 4
    assert {path.parent.name for path in files} == {"rgb", "normal", "edge_texture", "depth_zbuffer"}
    assert all(path.is_file() for path in files)
    assert files[-1] == files[23] == files[20:][3]


@pytest.mark.parametrize("index", [-1, 6])
def test_there_is_no_other_sample(tree: Path, index: int) -> None:
    with pytest.raises(IndexError, match="of 6"):
        opened(tree)[index]


GREY = np.full((24, 24), 9, np.uint8)
WRONG: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "text": ("rgb", b"no image", ("cannot be read as an image", "expected an RGB image", "copy it again")),
    "empty": ("segment_semantic", b"", ("cannot be read as an image", "expected an 8-bit image")),
    "truncated": ("depth_zbuffer", -60, ("cannot be read as an image", "512 to the metre", "copy it again")),
    "truncated map": ("edge_occlusion", -60, ("cannot be read as an image", "expected a 16-bit image of one channel")),
    "8-bit depth": ("depth_zbuffer", GREY, ("mode L", "expected a 16-bit image of one channel, 512 to the metre")),
    "8-bit edges": ("edge_texture", GREY, ("mode L", "expected a 16-bit image")),
    "grey normals": ("normal", GREY, ("mode L", "expected an RGB image of normals, n = (v − 127.5) / 127.5")),
    "16-bit reshading": ("reshading", GREY.astype(np.uint16), ("mode I;16", "three equal channels")),
    "other classes": ("segment_semantic", GREY + 20, ("576 pixels of no class, the first 29", "0 (uncertain) to 17")),
    "wrong size": ("keypoints2d", GREY[:12].astype(np.uint16), ("12 × 24 pixels", "is 24 × 24 pixels", "of one size")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_is_wrong(tree: Path, trees: SimpleNamespace, case: str) -> None:
    folder, damage, expected = WRONG[case]
    path = trees.file(tree, "buildings", VIEW, folder)
    if isinstance(damage, np.ndarray):
        Image.fromarray(damage).save(path)
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else path.read_bytes()[:damage])
    with pytest.raises(DataError) as caught:
        opened(tree)[0]
    found = str(caught.value)
    assert found.startswith(f"{path}: ")
    assert [part for part in expected if part not in found] == []
    assert len(found.splitlines()) == 1


def test_a_mask_of_another_size_is_wrong(tree: Path, trees: SimpleNamespace) -> None:
    path = trees.file(tree, "buildings", VIEW, "mask_valid")
    Image.fromarray(GREY[:8]).save(path)
    with pytest.raises(DataError, match=r"mask_valid\.png: 8 × 24 pixels"):
        opened(tree, mask="mask_valid")[0]


def test_a_file_that_went_away_is_told(tree: Path, trees: SimpleNamespace) -> None:
    data = opened(tree)
    trees.file(tree, "buildings", VIEW, "reshading").unlink()
    with pytest.raises(DataError, match=r"domain_reshading\.png: no such file"):
        data[0]


def test_images_of_several_sizes(tree: Path, trees: SimpleNamespace) -> None:
    for folder in trees.folders:
        path = trees.file(tree, "buildings", ("hanson", 0, 1), folder)
        Image.fromarray(np.asarray(Image.open(path))[:12]).save(path)
    with pytest.raises(
        DataError, match=r"12 × 24 pixels, but the first image is 24 × 24 .*set plugins\.taskonomy\.size"
    ):
        opened(tree)[1]
    assert opened(tree, size=(8, 8))[1].image.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": ""}, "root"),
        ({"tasks": ("normal",)}, "no task 'normal'; did you mean \"normals\""),
        ({"tasks": ()}, "at least one task"),
        ({"size": (0, 10)}, r"expected \[height, width\] in pixels, found \[0, 10\]"),
        ({"ranges": {"keypoint": 0.1}}, "no range is used for 'keypoint'; did you mean \"keypoints\""),
        ({"ranges": {"keypoints": 0.0}}, "keypoints: expected a number above 0 and up to 1, found 0"),
        ({"views_per_building": 0}, "views_per_building"),
        ({"blur": -1.0}, "blur"),
        ({"max_depth": 0.0}, "max_depth"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Taskonomy(**{"root": "data", **options})

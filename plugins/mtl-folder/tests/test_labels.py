"""Labels come out as the files say, whatever form they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtl_core import BinaryEdges, Classification, Depth, Normals, Regression, Sample, Segmentation
from mtl_folder.image_regression import ImageRegression

H = 24
W = 32
HEADER = 'images = "images/{name}.png"\n[splits]\ntest = 0.25\n'
GREY = np.random.default_rng(0).integers(256, size=(H, W, 3), dtype=np.uint8)


def label(tree: Any, table: str, values: Any, ending: str = "png", **options: Any) -> Tensor:
    """The label of a tree whose label files all hold ``values``."""
    for name in "abcd":
        tree.picture(f"images/{name}.png", GREY + ord(name))
        (tree.array if ending == "npy" else tree.picture)(f"labels/{name}.{ending}", np.asarray(values))
    tree.describe(f'{HEADER}\n[tasks.t]\nfiles = "labels/{{name}}.{ending}"\n{table}')
    sample: Sample = tree.open(**options)[0]
    return sample.targets["t"]


def ids(*rows: list[int]) -> Any:
    """A map of ids whose rows of 8 pixels are these values, repeated to 24 × 32."""
    return np.tile(np.array(rows, np.uint8).repeat(8, 0), (1, W // len(rows[0])))


MASK = ids([0, 1, 2, 9], [2, 2, 1, 0], [9, 9, 9, 1])
THREE = 'kind = "segmentation"\nclasses = ["a", "b", "c"]\nignored = 9'
EXPECTED = torch.from_numpy(np.where(MASK == 9, -1, MASK.astype(np.int64)))


@pytest.mark.parametrize(
    ("table", "values", "ending"),
    [
        (THREE, MASK, "png"),
        (THREE, MASK, "npy"),
        (THREE, MASK.astype(np.float32), "npy"),
        (THREE, MASK.astype(np.int64), "npy"),
        (THREE, MASK[..., None], "npy"),
        (THREE, MASK[None], "npy"),
        (THREE, np.stack([MASK] * 3, -1), "png"),
        (THREE, MASK.astype(np.uint16), "png"),
        (THREE.replace("9", '"others"'), MASK, "png"),
        (THREE.replace("9", "[9, 255]"), MASK, "png"),
        (THREE.replace("ignored = 9", ""), np.where(MASK == 9, -1, MASK.astype(int)), "npy"),
        ('kind = "segmentation"\nclasses = {a = 10, b = [11, 13], c = 12}\nignored = 19', MASK + 10, "png"),
    ],
    ids=str,
)
def test_ids(tree: Any, table: str, values: Any, ending: str) -> None:
    assert torch.equal(label(tree, table, values, ending), EXPECTED)


def test_several_ids_of_one_class(tree: Any) -> None:
    table = 'kind = "segmentation"\nclasses = {ab = [0, 1], c = 2}\nignored = 9'
    expected = torch.where(EXPECTED == 2, 1, torch.where(EXPECTED < 0, -1, 0))
    assert torch.equal(label(tree, table, MASK), expected)


COLOURS = np.array([[0, 0, 0], [128, 64, 0], [0, 200, 50], *([[255, 255, 255]] * 7)], np.uint8)


@pytest.mark.parametrize(
    "table",
    [
        'colours = {a = "#000000", b = "#804000", c = [0, 200, 50]}\nignored = "#ffffff"',
        'colours = {a = "#000000", b = "#804000", c = [0, 200, 50]}\nignored = [255, 255, 255]',
        'colours = {a = "#000000", b = "#804000", c = ["#00C832", [1, 1, 1]]}\nignored = ["#ffffff", "#010203"]',
        'colours = {a = "#000000", b = "#804000", c = [[0, 200, 50], "#111111"]}\nignored = "others"',
    ],
)
@pytest.mark.parametrize("form", ["RGB", "RGBA", "P"])
def test_colours(tree: Any, table: str, form: str) -> None:
    picture = Image.fromarray(COLOURS[MASK])
    converted = picture.quantize(8) if form == "P" else picture.convert(form)
    label(tree, 'kind = "regression"\nscale = 1', MASK)  # the files around it
    for name in "abcd":
        converted.save(tree.root / "labels" / f"{name}.png")
    tree.describe(f'{HEADER}\n[tasks.t]\nkind = "segmentation"\nfiles = "labels"\n{table}')
    assert torch.equal(tree.open()[0].targets["t"], EXPECTED)


def test_a_palette_picture_holds_ids(tree: Any) -> None:
    label(tree, THREE, MASK)
    for name in "abcd":
        picture = Image.fromarray(MASK).convert("P")
        picture.putpalette(COLOURS.tobytes())
        picture.save(tree.root / "labels" / f"{name}.png")
    assert torch.equal(tree.open()[0].targets["t"], EXPECTED)


MILLIMETRES = (np.arange(H * W).reshape(H, W) * 3 % 4000).astype(np.uint16)


@pytest.mark.parametrize(
    ("table", "values", "ending"),
    [
        ('unit = "mm"', MILLIMETRES, "png"),
        ("scale = 0.001", MILLIMETRES, "png"),
        ('unit = "mm"', MILLIMETRES.astype(np.float32), "npy"),
        ("", MILLIMETRES / 1000, "npy"),
        ('unit = "m"', (MILLIMETRES / 1000)[..., None], "npy"),
        ('unit = "cm"', MILLIMETRES / 10, "npy"),
        ("", MILLIMETRES.astype(np.float32) / 1000, "tif"),
        ("ignored = -1", np.where(MILLIMETRES == 0, -1, MILLIMETRES / 1000), "npy"),
        ("", np.where(MILLIMETRES == 0, np.nan, MILLIMETRES / 1000), "npy"),
        ("", np.where(MILLIMETRES == 0, np.inf, MILLIMETRES / 1000), "npy"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_depth(tree: Any, table: str, values: Any, ending: str) -> None:
    found = label(tree, f'kind = "depth"\n{table}', values, ending)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(MILLIMETRES.astype(np.float32) / 1000)[None])


def test_disparity_with_an_offset_keeps_its_missing_pixels(tree: Any) -> None:
    """As Cityscapes stores it: p = 0 missing, otherwise d = (p − 1) / 256."""
    stored = MILLIMETRES.copy()
    found = label(tree, 'kind = "disparity"\nscale = 0.00390625\noffset = -0.00390625\nunit = "px"', stored)
    expected = np.where(stored > 0, (stored.astype(np.float32) - 1) / 256, 0).clip(min=0)
    torch.testing.assert_close(found, torch.from_numpy(expected.astype(np.float32))[None])
    task = tree.open().tasks["t"]
    assert isinstance(task, Depth)
    assert task.disparity


def unit_vectors() -> Any:
    vectors = np.random.default_rng(1).normal(size=(H, W, 3)) * 0.4 - (0, 0, 1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[:3] = 0
    return vectors.astype(np.float32)


NORMALS = unit_vectors()
CODED = np.where(NORMALS.any(-1, keepdims=True), np.round(NORMALS * 127 + 128), 0).astype(np.uint8)
MIDDLE = np.where(NORMALS.any(-1, keepdims=True), CODED, 128).astype(np.uint8)


@pytest.mark.parametrize(
    ("table", "values", "ending"),
    [
        ("", NORMALS, "npy"),
        ("", NORMALS.transpose(2, 0, 1), "npy"),
        ("", CODED, "png"),
        ("", MIDDLE, "png"),
        ("scale = 0.00784313725\noffset = -1", CODED, "png"),
        ("scale = 2\noffset = -1", NORMALS / 2 + 0.5, "npy"),
        ('flip = ["y", "z"]', NORMALS * (1, -1, -1), "npy"),
        ("", np.where(NORMALS.any(-1, keepdims=True), NORMALS, np.nan), "npy"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_normals(tree: Any, table: str, values: Any, ending: str) -> None:
    found = label(tree, f'kind = "normals"\n{table}', values, ending)
    torch.testing.assert_close(found, torch.from_numpy(NORMALS.transpose(2, 0, 1).copy()), atol=0.02, rtol=0)
    lengths = found.norm(dim=0)
    assert torch.allclose(lengths[3:], torch.ones(()), atol=1e-5)
    assert (lengths[:3] == 0).all()


EDGES = np.random.default_rng(2).random((H, W)) < 0.1


@pytest.mark.parametrize(
    ("table", "values", "ending"),
    [
        ("", EDGES, "png"),
        ("", (EDGES * 255).astype(np.uint8), "png"),
        ("scale = 1", EDGES.astype(np.uint8), "png"),
        ("inverted = true", ((~EDGES) * 255).astype(np.uint8), "png"),
        ("", EDGES.astype(np.float32), "npy"),
        ("", EDGES, "npy"),
        ("", (EDGES * 65535).astype(np.uint16), "png"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_edges(tree: Any, table: str, values: Any, ending: str) -> None:
    found = label(tree, f'kind = "edges"\n{table}', values, ending)
    torch.testing.assert_close(found, torch.from_numpy(EDGES.astype(np.float32))[None])


def test_ignored_values_of_a_map_are_invalid(tree: Any) -> None:
    values = np.where(EDGES, -9999, 0.5).astype(np.float32)
    found = label(tree, 'kind = "regression"\nignored = [-9999, 7]\nscale = 2\noffset = 1', values, "npy")
    assert torch.equal(found.isnan()[0], torch.from_numpy(EDGES))
    assert (found[~found.isnan()] == 2).all()


def test_several_channels(tree: Any) -> None:
    values = np.random.default_rng(3).random((H, W, 2)).astype(np.float32)
    found = label(tree, 'kind = "regression"\nchannels = 2', values, "npy")
    assert torch.equal(found, torch.from_numpy(values.transpose(2, 0, 1).copy()))


def test_resizing_keeps_what_each_kind_promises(tree: Any) -> None:
    size = (10, 14)
    assert set(label(tree, THREE, MASK, size=size).unique().tolist()) <= {-1, 0, 1, 2}
    depth = label(tree, 'kind = "depth"\nunit = "mm"', MILLIMETRES, size=size)
    assert depth.shape == (1, *size)
    assert set((depth * 1000).round().flatten().tolist()) <= set(MILLIMETRES.flatten().tolist())
    lengths = label(tree, 'kind = "normals"', NORMALS, "npy", size=size).norm(dim=0)
    assert torch.logical_or((lengths - 1).abs() < 1e-4, lengths == 0).all()


def test_tasks_have_what_the_description_says(dense: Any, table: Any) -> None:
    dense.describe(
        HEADER.replace(".png", ".jpg")
        + """
[tasks.heat]
kind = "regression"
files = "heat/{name}.npy"
[tasks.parts]
kind = "segmentation"
files = "masks/{name}.png"
classes = {background = 0, leaf = 1, stem = 2}
[tasks.depth]
kind = "depth"
unit = "mm"
files = "depth"
[tasks.normals]
kind = "normals"
files = "normals/{name}.*"
[tasks.edges]
kind = "edges"
files = "edges/{name}.png"
"""
    )
    assert list(dense.open().tasks) == [
        Regression(name="heat", channels=1),
        Segmentation(name="parts", channels=3, classes=("background", "leaf", "stem")),
        Depth(name="depth"),
        Normals(name="normals"),
        BinaryEdges(name="edges"),
    ]


def test_tasks_per_image(table: Any) -> None:
    assert list(table.open().tasks) == [
        Classification(name="species", channels=2, classes=("cat", "dog")),
        ImageRegression(name="weight", channels=1, outputs=("weight",), measured_in="kg"),
    ]


IMAGE = GREY[..., 0]


@pytest.mark.parametrize(
    ("mode", "path"),
    [("RGB", "a.png"), ("RGBA", "a.png"), ("L", "a.png"), ("P", "a.png"), ("P", "a.gif"), ("LA", "a.png"),
     ("CMYK", "a.tif"), ("RGB", "a.bmp"), ("RGB", "a.webp"), ("1", "a.png")],
)  # fmt: skip
def test_images_of_every_form_of_8_bits(tree: Any, mode: str, path: str) -> None:
    grey = mode in ("L", "LA", "P", "1")
    source = Image.fromarray(IMAGE if grey else GREY)
    (tree.root / "images").mkdir()
    for name in "abcd":
        source.convert(mode).save(
            tree.root / "images" / path.replace("a", name, 1), **({"lossless": True} if "webp" in path else {})
        )
    tree.text("labels.csv", "image,x\na,1\nb,2\nc,3\nd,4\n")
    tree.describe(
        'images = "images"\ncsv = "labels.csv"\n[splits]\ntest = 0.25\n'
        '[tasks.x]\nkind = "image-regression"\ncolumn = "x"'
    )
    image = tree.open()[0].image
    assert image.dtype == torch.uint8
    assert image.shape == (3, H, W)
    expected = source.convert("1").convert("RGB") if mode == "1" else source.convert("RGB")
    close = 3 if mode == "CMYK" else 0
    assert (
        image.int() - torch.from_numpy(np.asarray(expected).transpose(2, 0, 1).astype(np.int32))
    ).abs().max() <= close


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        (GREY, ""), (GREY.astype(np.float32) / 255, ""), (GREY.astype(np.float32), "image_range = [0, 255]"),
        (GREY.transpose(2, 0, 1), ""), (GREY.astype(np.int64), "image_range = [0, 255]"),
        (GREY.astype(np.float32) / 127.5 - 1, "image_range = [-1, 1]"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)  # fmt: skip
def test_images_as_arrays(tree: Any, values: Any, limits: str) -> None:
    for name in "abcd":
        tree.array(f"images/{name}.npy", values)
    tree.text("labels.csv", "image,x\na,1\nb,2\nc,3\nd,4\n")
    tree.describe(
        f'images = "images"\ncsv = "labels.csv"\n{limits}\n[splits]\ntest = 0.25\n[tasks.x]\nkind = "image-regression"'
        '\ncolumn = "x"'
    )
    image = tree.open()[0].image
    floats = image / 255 if image.dtype == torch.uint8 else image
    torch.testing.assert_close(floats, torch.from_numpy(GREY.transpose(2, 0, 1).copy()) / 255, atol=1e-6, rtol=0)


def test_a_file_of_16_bits_of_another_byte_order(tree: Any) -> None:
    label(tree, 'kind = "depth"\nunit = "mm"', MILLIMETRES)
    for path in sorted(Path(tree.root / "labels").iterdir()):
        path.unlink()
        Image.frombytes("I;16B", (W, H), MILLIMETRES.astype(">u2").tobytes()).save(path.with_suffix(".tif"))
    tree.describe(f'{HEADER}\n[tasks.t]\nkind = "depth"\nunit = "mm"\nfiles = "labels/{{name}}.tif"')
    torch.testing.assert_close(
        tree.open()[0].targets["t"], torch.from_numpy(MILLIMETRES.astype(np.float32) / 1000)[None]
    )

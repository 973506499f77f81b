"""What a person reads before the first step when files are not what the description says.

Each mistake is one line: file, task, what was found, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtl_core import DataError

NAMES = tuple(f"{i:04d}" for i in range(8))
H = 24
W = 32
Damage = Callable[[Any], object]


def message(tree: Any, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        tree.open(split, **options)
    return str(caught.value)


def every(folder: str, change: Callable[[Any], Any], ending: str = "png", **options: Any) -> Damage:
    """Change the values of every file of a folder."""

    def damage(tree: Any) -> None:
        for path in sorted((tree.root / folder).iterdir()):
            old = np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))
            path.unlink()
            write = tree.array if ending == "npy" else tree.picture
            write(f"{folder}/{path.stem}.{ending}", change(old), **options)

    return damage


def put(old: str, new: str) -> Damage:
    """Write something else into the description."""

    def damage(tree: Any) -> None:
        path = tree.root / "mtl-folder.toml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return damage


def both(*damages: Damage) -> Damage:
    def damage(tree: Any) -> None:
        for one in damages:
            one(tree)

    return damage


def swap(first: str, second: str) -> Damage:
    def damage(tree: Any) -> None:
        (tree.root / first).rename(tree.root / "kept")
        (tree.root / second).rename(tree.root / first)
        (tree.root / "kept").rename(tree.root / second)

    return damage


def with_255(mask: Any) -> Any:
    return np.where(np.arange(mask.shape[1]) < 3, 255, mask).astype(np.uint8)


def coloured(mask: Any) -> Any:
    return np.array([[0, 0, 0], [128, 64, 0], [0, 200, 50]], np.uint8)[mask]


def photograph(values: Any) -> Any:
    return np.random.default_rng(0).integers(256, size=(*values.shape[:2], 3), dtype=np.uint8)


def half(values: Any) -> Any:
    return values[::2, ::2]


def remove(folder: str) -> Damage:
    def damage(tree: Any) -> None:
        for path in (tree.root / folder).iterdir():
            path.unlink()

    return damage


def rename(folder: str, form: str) -> Damage:
    def damage(tree: Any) -> None:
        for path in sorted((tree.root / folder).iterdir()):
            path.rename(path.with_name(form.format(name=path.stem)))

    return damage


def cut(path: str) -> Damage:
    return lambda tree: (tree.root / path).write_bytes((tree.root / path).read_bytes()[:-60])


DENSE: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "255 marks pixels without a class": (
        every("masks", with_255),
        ('task "parts"', "ids that are no class: 255 (9.38 % of the pixels)", "ids 0, 1, 2", "ignored = 255"),
    ),
    "masks made for looking at": (
        every("masks", lambda mask: mask * 100),
        ('task "parts"', "ids that are no class: 100, 200", "expected the 3 ids", "name them in classes"),
    ),
    "black and white masks": (
        both(
            every("masks", lambda mask: ((mask > 0) * 255).astype(np.uint8)),
            put('["background", "leaf", "stem"]', '["no", "yes"]'),
        ),
        ("ids that are no class: 255", "classes = {no = 0, yes = 255}", "else ignored = 255"),
    ),
    "ids count from 1": (
        every("masks", lambda mask: mask + 1),
        ("ids that are no class: 3", "classes = {background = 1, …, stem = 3}"),
    ),
    "more ids than classes": (
        every("masks", lambda mask: np.arange(H * W).reshape(H, W).astype(np.uint8)),
        ("ids that are no class: 3, 4, 5", "more (", "another task (depth)"),
    ),
    "masks in colour without a table of colours": (
        every("masks", coloured),
        ("a colour picture (3 colours: ", '"#000000"', '"#804000"', "colours = {NAME = "),
    ),
    "photographs in place of masks": (
        every("masks", photograph),
        ('task "parts"', "colours", "are these images, or another task's files?"),
    ),
    "masks saved as JPEG": (
        both(
            every("masks", lambda mask: coloured(mask), "jpg"),
            put("masks/{name}.png", "masks/{name}.jpg"),
            put(
                'classes = ["background", "leaf", "stem"]',
                'colours = {background = "#000000", leaf = [128, 64, 0], stem = "#00c832"}',
            ),
        ),
        ("colours that are no class: ", "the 3 colours of the classes", "JPEG changes values: save label files as PNG"),
    ),
    "probabilities in place of ids": (
        both(every("masks", lambda mask: mask / 7, "npy"), put("masks/{name}.png", "masks/{name}.npy")),
        ('task "parts"', "values that are not whole numbers", "expected class ids"),
    ),
    "nothing but ignored pixels": (
        both(every("masks", lambda mask: mask * 0 + 9), put('"stem"]', '"stem"]\nignored = 9')),
        ('task "parts"', "no pixel with a class", "look at ignored"),
    ),
    "images in 0..255 as float": (
        both(
            every("images", lambda image: image.astype(np.float32), "npy"),
            put("images/{name}.jpg", "images/{name}.npy"),
        ),
        ("images/0000.npy", "float32 values 0 to 255", "expected 0 to 1", "image_range = [0, 255]"),
    ),
    "images of 16 bits": (
        both(
            every("images", lambda image: image[..., 0].astype(np.uint16) * 16),
            put("images/{name}.jpg", "images/{name}.png"),
        ),
        ("images/0000.png", "uint16 values", "expected 0 to 1", "image_range = [0, "),
    ),
    "images of two channels": (
        both(every("images", lambda image: image[..., :2], "npy"), put("images/{name}.jpg", "images/{name}.npy")),
        ("an image of 2 channels", "expected RGB or grey"),
    ),
    "a damaged image": (
        cut("images/0000.jpg"),
        ("images/0000.jpg: cannot be read as an image", "copy it again"),
    ),
    "a damaged label": (
        cut("depth/0000.png"),
        ('task "depth"', "depth/0000.png: cannot be read as an image", "copy it again"),
    ),
    "depth of zeros": (
        every("depth", lambda depth: depth * 0),
        ('task "depth"', "no value above 0 in the whole label", "scale and ignored"),
    ),
    "depth of NaN": (
        both(
            every("depth", lambda depth: depth * np.float32("nan"), "npy"), put("depth/{name}.png", "depth/{name}.npy")
        ),
        ('task "depth"', "no finite value in the whole label"),
    ),
    "millimetres without a unit": (
        put('unit = "mm"', ""),
        ('task "depth"', "whole numbers ", " taken as metres", 'unit = "mm"'),
    ),
    "millimetres as floating point metres": (
        both(
            every("depth", lambda depth: depth.astype(np.float32), "npy"),
            put('depth/{name}.png"\nunit = "mm"', 'depth/{name}.npy"'),
        ),
        ('task "depth"', "depth up to 4", "at most 1000 m", 'if these are millimetres: unit = "mm"'),
    ),
    "a scale and a unit that are one": (
        put('unit = "mm"', 'unit = "mm"\nscale = 0.001'),
        ('task "depth"', "m at most", "are scale and unit both there?"),
    ),
    "depth as a picture for looking at": (
        both(every("depth", lambda depth: (depth // 20).astype(np.uint8)), put('unit = "mm"', "")),
        ('task "depth"', "taken as metres", "8 bits are mostly a picture for looking at"),
    ),
    "a colour map of depth": (
        every("depth", photograph),
        ('task "depth"', "3 channels; expected one channel", "pictures made for looking at"),
    ),
    "depth outside the range": (
        put('unit = "mm"', 'unit = "mm"\nrange = [0, 3]'),
        ('task "depth"', "values 0.5", "expected 0 to 3"),
    ),
    "masks in place of depth": (
        put("depth/{name}.png", "masks/{name}.png"),
        ('task "depth"', "only 3 different values (0, 1, 2)", "are these files of another task (classes)?"),
    ),
    "depth in place of masks": (
        put("masks/{name}.png", "depth/{name}.png"),
        ('task "parts"', "ids that are no class", "are these files of another task (depth), or images?"),
    ),
    "folders of two tasks swapped": (
        swap("masks", "depth"),
        ('task "parts"', 'task "depth"', "2 problems"),
    ),
    "images in place of normals": (
        put("normals/{name}.npy", "images/{name}.jpg"),
        ('task "normals"', "the image itself; expected a label file"),
    ),
    "photographs in place of normals": (
        both(every("normals", photograph), put("normals/{name}.npy", "normals/{name}.png")),
        ('task "normals"', "vectors of lengths", "expected unit vectors", "give scale and offset"),
    ),
    "normals in 0..1": (
        every("normals", lambda n: n / 2 + 0.5, "npy"),
        ('task "normals"', "expected unit vectors", "scale = 2, offset = -1"),
    ),
    "normals away from the camera": (
        every("normals", lambda n: -n, "npy"),
        ('task "normals"', "nearly all normals point away from the camera", 'flip = ["z"]'),
    ),
    "normals of zeros": (
        every("normals", lambda n: n * 0, "npy"),
        ('task "normals"', "no valid vector in the whole label"),
    ),
    "depth in place of normals": (
        put("normals/{name}.npy", "depth/{name}.png"),
        ('task "normals"', "one channel; expected three channels"),
    ),
    "edges in 0 and 1": (
        every("edges", lambda edges: edges // 255),
        ('task "edges"', "0 and 1 where white is 255", "write scale = 1"),
    ),
    "dark edges on light": (
        every("edges", lambda edges: 255 - edges),
        ('task "edges"', "% of the pixels are edges", "inverted = true"),
    ),
    "edges in 0..255 as float": (
        both(
            every("edges", lambda edges: edges.astype(np.float32), "npy"), put("edges/{name}.png", "edges/{name}.npy")
        ),
        ('task "edges"', "values 0 to 255", "expected 0 to 1", "write a scale"),
    ),
    "a map of NaN": (
        every("heat", lambda heat: heat * np.float32("nan"), "npy"),
        ('task "heat"', "no finite value in the whole label"),
    ),
    "large values": (
        every("heat", lambda heat: heat * 50000 + 20000, "npy"),
        ('task "heat"', "values 2", "a head begins near 0", "write a scale"),
    ),
    "a map of bytes": (
        both(
            every("heat", lambda heat: (heat * 255).astype(np.uint8), "png"),
            put("heat/{name}.npy", "heat/{name}.png"),
        ),
        ('task "heat"', "whole numbers, values 0 to 25", "scale = 0.0039"),
    ),
    "other channels": (
        put("heat/{name}.npy", "normals/{name}.npy"),
        ('task "heat"', "3 channels; expected 1; write channels = 3"),
    ),
    "labels of half the size": (
        every("masks", half),
        ('task "parts"', "12 × 16 pixels", "expected 24 × 32 pixels, as its image", "nearest neighbour"),
    ),
    "labels on their side": (
        every("masks", lambda mask: mask.T.copy()),
        ('task "parts"', "32 × 24 pixels", "one of the two lies on its side"),
    ),
    "label files of other names": (
        rename("masks", "{name}_mask.png"),
        ('train: task "parts"', "none of the 6 images has a label", 'files = "masks/{name}_mask.png"'),
    ),
    "label files of another ending": (
        put("masks/{name}.png", "masks/{name}.tif"),
        ("none of the 6 images has a label", "masks/0000.tif", 'files = "masks/{name}.png"'),
    ),
    "no label files": (
        remove("masks"),
        ("none of the 6 images has a label", "masks has no files"),
    ),
    "no folder of labels": (
        put("masks/{name}.png", "mask/{name}.png"),
        ("none of the 6 images has a label", "there is no folder", "mask: correct files"),
    ),
    "two label files of one name": (
        both(
            lambda tree: tree.array("masks/0000.npy", np.zeros((H, W), np.uint8)),
            put("masks/{name}.png", "masks/{name}.*"),
        ),
        ('task "parts"', "0000.npy, 0000.png", "expected one file per name; remove one"),
    ),
}


@pytest.mark.parametrize("mistake", DENSE)
def test_files(dense: Any, mistake: str) -> None:
    damage, parts = DENSE[mistake]
    damage(dense)
    found = message(dense)
    for part in parts:
        assert part in found
    assert found.startswith(str(dense.root))


def test_every_mistake_of_files_is_one_line(dense: Any) -> None:
    DENSE["255 marks pixels without a class"][0](dense)
    DENSE["depth of zeros"][0](dense)
    DENSE["dark edges on light"][0](dense)
    head, *lines = message(dense).split("\n  ")
    assert head == f"{dense.root}: 3 problems"
    assert [line.split('task "')[1].split('"')[0] for line in lines] == ["parts", "depth", "edges"]
    assert all("; expected " in line and "more like it" in line for line in lines)


def test_images_of_several_sizes(dense: Any) -> None:
    for folder in ("images", "masks", "depth", "edges"):
        path = next((dense.root / folder).glob("0003.*"))
        Image.fromarray(np.asarray(Image.open(path))[:12]).save(path)
    for folder in ("normals", "heat"):
        path = dense.root / folder / "0003.npy"
        np.save(path, np.load(path)[:12])
    found = message(dense, check=None)
    assert "0003.jpg: 12 × 32 pixels; expected 24 × 32 pixels, as 0000.jpg" in found
    assert "set plugins.folder.size to [height, width]" in found
    dataset = dense.open(size=(12, 16))
    assert {tuple(dataset[i].image.shape) for i in range(len(dataset))} == {(3, 12, 16)}


def test_splits_of_different_sizes(tree: Any) -> None:
    for split, height in (("train", 16), ("test", 12)):
        tree.picture(
            f"{split}/images/a.png", np.random.default_rng(height).integers(256, size=(height, 16, 3), dtype="u1")
        )
        tree.picture(f"{split}/masks/a.png", np.eye(height, 16, dtype=np.uint8))
    tree.describe(
        'images = "{split}/images"\n[tasks.parts]\nkind = "segmentation"\nfiles = "{split}/masks"\nclasses = ["a", "b"]'
    )
    found = message(tree)
    assert "12 × 16 pixels; expected 16 × 16 pixels" in found
    assert "set plugins.folder.size" in found
    assert tree.open("test")[0].image.shape == (3, 12, 16)
    assert len(tree.open(size=(8, 8))) == 1


def test_what_no_check_has_seen_is_told_when_it_is_read(dense: Any) -> None:
    path = dense.root / "masks" / "0005.png"
    Image.fromarray(np.full((H, W), 7, np.uint8)).save(path)
    dataset = dense.open(check=0)
    index = dataset.names.index("0005")
    with pytest.raises(DataError, match=r'0005\.png: task "parts": ids that are no class: 7 \(100 % of'):
        dataset[index]


def test_a_mistake_in_the_test_data_is_told_before_training(dense: Any) -> None:
    test = dense.open("test").names[0]
    Image.fromarray(np.full((H, W), 7, np.uint8)).save(dense.root / "masks" / f"{test}.png")
    assert f"{test}.png" in message(dense)


def test_a_test_split_without_one_task_is_a_warning(dense: Any, caplog: pytest.LogCaptureFixture) -> None:
    for name in dense.open("test").names:
        (dense.root / "masks" / f"{name}.png").unlink()
    assert dense.open()
    assert 'no image of the test split has a label of task "parts"' in caplog.text


def test_a_test_split_without_any_label(dense: Any) -> None:
    for name in dense.open("test").names:
        for folder in ("masks", "depth", "normals", "edges", "heat"):
            next((dense.root / folder).glob(f"{name}.*")).unlink()
    found = message(dense)
    assert 'test: task "parts": none of the 2 images has a label' in found


TABLE: dict[str, tuple[Damage, tuple[str, ...]]] = {}


def cell(old: str, new: str) -> Damage:
    """Write something else into the CSV."""

    def damage(tree: Any) -> None:
        path: Path = tree.root / "labels.csv"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return damage


TABLE |= {
    "a word in place of a number": (
        cell("b.jpg,dog,2.25", "b.jpg,dog,heavy"),
        ('labels.csv, line 3: task "weight": "heavy"; expected a number', 'for classes: kind = "classification"'),
    ),
    "a decimal comma": (
        both(cell("b.jpg,dog,2.25", 'b.jpg,dog,"2,25"')),
        ('labels.csv, line 3: task "weight": "2,25"', 'decimal = ","'),
    ),
    "NA in place of an empty cell": (
        cell("d.jpg,cat,", "d.jpg,cat,NA"),
        ('labels.csv, line 5: task "weight": "NA"; expected a number', 'ignored = "NA"'),
    ),
    "a class that is not named": (
        both(cell("b.jpg,dog", "b.jpg,dgo"), put('column = "species"', 'column = "species"\nclasses = ["cat", "dog"]')),
        ('line 3: task "species": "dgo"', "expected one of cat, dog", 'did you mean "dog"?', "name it in classes"),
    ),
    "a column that is not there": (
        put('column = "weight"', 'column = "wieght"'),
        ("tasks.weight.column: ", 'labels.csv has no column "wieght"; did you mean "weight"?'),
    ),
    "two columns that are not there": (
        both(put('column = "weight"', 'column = "mass"'), put('column = "species"', 'column = "kind"')),
        ('no column "mass" (it has: image, species, weight)', 'no column "kind"'),
    ),
    "a row without an image": (
        cell("b.jpg,", "bb.jpg,"),
        ('labels.csv, line 3: there is no image "bb.jpg"', "copy the image, or remove the row"),
    ),
    "two rows for one image": (
        cell("c.jpg,", "b.jpg,"),
        ("labels.csv, line 4: b is in line 3 already", "expected a row per image"),
    ),
    "the wrong column of images": (
        put('csv = "labels.csv"', 'csv = {file = "labels.csv", key = "species"}'),
        ('no cell of column "species" names an image; found "cat"', '"a.jpg"', "csv.key"),
    ),
    "a row that is too short": (
        cell("b.jpg,dog,2.25", "b.jpg,dog"),
        ("labels.csv, line 3: 2 cells; expected 3", "quotation marks"),
    ),
    "a column of names as classes": (
        put('column = "species"', 'column = "image"\nclasses = ["a.jpg", "b.jpg"]'),
        ('line 4: task "species": "c.jpg"; expected one of a.jpg, b.jpg',),
    ),
    "one class only": (
        cell("dog", "cat"),
        ("tasks.species.column: 1 classes in species; expected two or more; is it the right column?",),
    ),
    "large numbers without mean and deviation": (
        both(cell("1.5", "180000"), cell("2.25", "420000"), cell(",3\n", ",250000\n")),
        ('train: task "weight": values ', "a head begins near 0", "write mean = ", " and deviation = "),
    ),
    "a value out of range": (
        put('unit = "kg"', 'unit = "kg"\nrange = [0, 3.5]'),
        ('task "weight": 4; expected 0 to 3.5; correct range, or the cell',),
    ),
    "no CSV": (
        lambda tree: (tree.root / "labels.csv").unlink(),
        ("labels.csv: no such file; expected a CSV with a row per image",),
    ),
    "an empty CSV": (
        lambda tree: tree.text("labels.csv", ""),
        ("labels.csv: 0 rows; expected a header",),
    ),
    "a CSV that is not UTF-8": (
        lambda tree: tree.text("labels.csv", "image,species,weight\nä.jpg,cat,1\n", "latin-1"),
        ("labels.csv: byte 21 is not UTF-8; save it as CSV, UTF-8",),
    ),
    "two columns of one name": (
        cell("image,species,weight", "image,weight,weight"),
        ('labels.csv: two columns are called "weight"; rename one',),
    ),
    "no folder of images": (
        put("photos/{name}.jpg", "photo/{name}.jpg"),
        ("images: no folder ", '/photo; did you mean "photos"?'),
    ),
    "images of another ending": (
        put("photos/{name}.jpg", "photos/{name}.png"),
        ('images: no file fits "photos/{name}.png"', "photos has 8 files, such as a.jpg"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TABLE)
def test_cells(table: Any, mistake: str) -> None:
    damage, parts = TABLE[mistake]
    damage(table)
    found = message(table)
    for part in parts:
        assert part in found
    assert found.startswith(str(table.root))


def test_several_mistakes_of_cells_at_once_and_the_rest_as_a_number(table: Any) -> None:
    both(*(cell(f",{value}\n", ",x\n") for value in ("1.5", "2.25", "3", "0.5", "4")))(table)
    found = message(table)
    assert found.count('"x"; expected a number') == 3
    assert "… and 2 more like the last one" in found


def test_a_folder_that_is_not_there(tmp_path: Path, tree: Any) -> None:
    tree.root = tmp_path / "dta"
    assert message(tree) == f"{tmp_path / 'dta'}: no such folder; set plugins.folder.root to the folder with your data"


def test_no_description(tree: Any) -> None:
    found = message(tree)
    assert found.startswith(f"{tree.root / 'mtl-folder.toml'}: no such file; `mtl data init {tree.root}` writes one")
    tree.text("mtl-foldr.toml", "")
    assert 'did you mean "mtl-foldr.toml"?' in message(tree)


def test_a_split_that_is_not_described(dense: Any) -> None:
    found = message(dense, "val")
    assert found.startswith(f"{dense.root}: there is no split 'val' (there are: train, test)")
    assert "val = 0.2" in found
    assert 'did you mean "test"?' in message(dense, "tets")

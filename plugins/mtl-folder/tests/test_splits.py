"""Which images belong to which split: folders, lists, columns, shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtl_core import DataError
from mtl_folder import Folder

TASK = '[tasks.parts]\nkind = "segmentation"\nclasses = ["a", "b", "c"]\nfiles = '
LETTERS = tuple("abcdefgh")


def names(tree: Any, split: str) -> list[str]:
    return list(tree.open(split).names)


def message(tree: Any, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        tree.open(split)
    return str(caught.value)


def write(tree: Any, at: str, masks: str, *names: str) -> None:
    tree.images(*names, at=at)
    tree.labels(lambda raw: raw.classes, *names, at=masks)


@pytest.fixture
def flat(tree: Any) -> Any:
    write(tree, "images/{name}.jpg", "masks/{name}.png", *LETTERS)
    return tree


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{split}/images/{name}.jpg", "{split}/masks/{name}.png"),
        ("images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
        ("{split}/{name}_image.jpg", "{split}/{name}_mask.png"),
        ("{split}/images", "{split}/masks"),
    ],
)
def test_folders(tree: Any, images: str, masks: str) -> None:
    at, where = ((p if "{name}" in p else f"{p}/{{name}}.{e}") for p, e in ((images, "jpg"), (masks, "png")))
    for folder, letters in (("train", "abc"), ("valid", "ad"), ("test", "ae")):
        write(tree, at.replace("{split}", folder), where.replace("{split}", folder), *letters)
    tree.describe(f'images = "{images}"\n{TASK}"{masks}"')
    assert [names(tree, split) for split in ("train", "val", "test")] == [list("abc"), list("ad"), list("ae")]


def test_folders_of_other_names(tree: Any) -> None:
    for folder, letters in (("set/one", "abc"), ("set/two", "d")):
        write(tree, f"{folder}/images/{{name}}.jpg", f"{folder}/masks/{{name}}.png", *letters)
    tree.describe(
        f'images = "{{split}}/images"\n[splits]\ntrain = "set/one"\ntest = "set/two"\n{TASK}"{{split}}/masks"'
    )
    assert [names(tree, split) for split in ("train", "test")] == [list("abc"), ["d"]]
    assert "no split 'val'" in message(tree, "val")


def test_the_hook_names_what_is_described(tree: Any) -> None:
    for folder, letters in (("set/one", "abc"), ("set/two", "d")):
        write(tree, f"{folder}/images/{{name}}.jpg", f"{folder}/masks/{{name}}.png", *letters)
    for splits in (["train", "test"], ["train", "val"]):
        tree.describe(
            'images = "{split}/images"\n[splits]\n'
            f'{splits[0]} = "set/one"\n{splits[1]} = "set/two"\n{TASK}"{{split}}/masks"'
        )
        assert list(Folder(root=str(tree.root)).name_splits()) == splits


def test_a_share_of_a_training_folder(tree: Any) -> None:
    for folder, letters in (("train", LETTERS), ("test", ("x", "y"))):
        write(tree, f"{folder}/{{name}}.jpg", f"{folder}/{{name}}.png", *letters)
    tree.describe(f'images = "{{split}}/{{name}}.jpg"\n[splits]\nval = 0.25\n{TASK}"{{split}}/{{name}}.png"')
    train = names(tree, "train")
    val = names(tree, "val")
    assert (len(train), len(val)) == (6, 2)
    assert sorted([*train, *val]) == list(LETTERS)
    assert names(tree, "test") == ["x", "y"]


def test_a_test_folder_alone_is_enough_to_evaluate(tree: Any) -> None:
    write(tree, "test/images/{name}.jpg", "test/masks/{name}.png", "a", "b")
    tree.describe(f'images = "{{split}}/images"\n{TASK}"{{split}}/masks"')
    assert names(tree, "test") == ["a", "b"]
    assert "there is no split 'train' (there are: test)" in message(tree)


def test_no_folder_of_a_split(tree: Any) -> None:
    write(tree, "training_set/{name}.jpg", "training_set/{name}.png", "a", "b")
    tree.describe(f'images = "{{split}}/{{name}}.jpg"\n{TASK}"{{split}}/{{name}}.png"')
    assert "no folder fits {split} in {split}/{name}.jpg (tried: train, val, test)" in message(tree)


def test_lists(flat: Any) -> None:
    flat.text("lists/train.txt", "# the good ones\n  a\nb.jpg\n\nimages/c.jpg\n/somewhere/else/images/d.jpg\n")
    flat.text("lists/test.txt", "e\r\nf\r\n")
    flat.describe(
        f'images = "images"\n[splits]\ntrain = "lists/train.txt"\ntest = "lists/test.txt"\n{TASK}"masks/{{name}}.png"'
    )
    assert names(flat, "train") == list("abcd")
    assert names(flat, "test") == list("ef")


def test_a_list_for_the_test_data_and_the_rest_for_training(flat: Any) -> None:
    flat.text("test.txt", "b\nc\n")
    flat.describe(f'images = "images"\n[splits]\ntest = "test.txt"\nval = 0.5\n{TASK}"masks"')
    train = names(flat, "train")
    val = names(flat, "val")
    assert (len(train), len(val)) == (3, 3)
    assert sorted([*train, *val]) == list("adefgh")


def test_an_image_in_two_lists(flat: Any) -> None:
    flat.text("train.txt", "a\nb\nc\n")
    flat.text("test.txt", "c\nd\n")
    flat.describe(f'images = "images"\n[splits]\ntrain = "train.txt"\ntest = "test.txt"\n{TASK}"masks"')
    found = message(flat)
    assert "splits: 1 images are in train and in test, such as c; expected no image in two splits" in found


def test_mistakes_of_lists(flat: Any) -> None:
    flat.text("lists/train.txt", "a\nx\ny\n")
    flat.describe(f'images = "images"\n[splits]\ntrain = "lists/train.txt"\ntest = "lists/tset.txt"\n{TASK}"masks"')
    flat.text("lists/test.txt", "b")
    found = message(flat)
    assert 'train.txt, line 2: there is no image "x"; copy the image, or remove the row' in found
    assert 'train.txt, line 3: there is no image "y"' in found
    assert "splits.test: there is no file" in found
    assert 'did you mean "test.txt"?' in found


def test_shares_are_drawn_by_name_and_seed(flat: Any) -> None:
    def describe(seed: int) -> None:
        flat.describe(f'images = "images"\n[splits]\nval = 0.25\ntest = 0.25\nseed = {seed}\n{TASK}"masks"')

    describe(0)
    first = [names(flat, split) for split in ("train", "val", "test")]
    assert [len(found) for found in first] == [4, 2, 2]
    assert sorted(name for found in first for name in found) == list(LETTERS)
    assert first == [names(flat, split) for split in ("train", "val", "test")]
    others = []
    for seed in range(1, 6):
        describe(seed)
        others.append([names(flat, split) for split in ("train", "val", "test")])
    assert any(other != first for other in others)
    assert all(found == sorted(found) for found in first)


def test_names_are_in_the_order_of_their_numbers(tree: Any) -> None:
    write(tree, "images/{name}.jpg", "masks/{name}.png", *(f"img{i}" for i in (10, 9, 2, 1, 100)))
    tree.describe(f'images = "images"\n[splits]\ntest = 0.2\n{TASK}"masks"')
    assert sorted(names(tree, "train") + names(tree, "test"), key=lambda name: int(name[3:])) == [
        "img1", "img2", "img9", "img10", "img100",
    ]  # fmt: skip
    assert names(tree, "train") == sorted(names(tree, "train"), key=lambda name: int(name[3:]))


def test_several_placeholders(tree: Any) -> None:
    """As Cityscapes lies on a disk."""
    for split, city in (("train", "aachen"), ("train", "bonn"), ("val", "lindau")):
        at = f"left/{split}/{city}/{city}_{{name}}_left.jpg"
        masks = f"fine/{split}/{city}/{city}_{{name}}_ids.png"
        write(tree, at, masks, "000000_000019", "000001_000019")
    tree.describe(
        'images = "left/{split}/{city}/{city}_{name}_left.jpg"\n[splits]\ntest = "val"\n'
        f'{TASK}"fine/{{split}}/{{city}}/{{city}}_{{name}}_ids.png"'
    )
    assert names(tree, "train") == [
        "aachen/000000_000019", "aachen/000001_000019", "bonn/000000_000019", "bonn/000001_000019",
    ]  # fmt: skip
    assert names(tree, "test") == ["lindau/000000_000019", "lindau/000001_000019"]
    assert tree.open().labelled is None


def test_a_column_of_the_csv(table: Any) -> None:
    lines = (table.root / "labels.csv").read_text("utf-8").splitlines()
    fold = ["fold", *(["one"] * 5), "two", "two", "unused"]
    table.text("labels.csv", "\n".join(f"{line},{cell}" for line, cell in zip(lines, fold, strict=True)))
    description = (table.root / "mtl-folder.toml").read_text("utf-8")
    table.describe(description.replace("test = 0.25", 'column = "fold"\ntrain = "one"\ntest = "two"'))
    assert names(table, "train") == list("abcde")
    assert names(table, "test") == ["f", "g"]
    table.describe(description.replace("test = 0.25", 'column = "fold"\ntrain = "one"\ntest = "tow"'))
    assert 'splits.test: column "fold" has no cell "tow"; did you mean "two"?' in message(table)


def test_a_csv_for_each_split(table: Any) -> None:
    text = (table.root / "labels.csv").read_text("utf-8")
    head, *lines = text.splitlines()
    (table.root / "labels.csv").unlink()
    table.text("train.csv", "\n".join([head, *lines[:5]]))
    table.text("test.csv", "\n".join([head, *lines[5:7]]))
    description = (table.root / "mtl-folder.toml").read_text("utf-8")
    table.describe(description.replace("labels.csv", "{split}.csv").replace("[splits]\ntest = 0.25", ""))
    assert names(table, "train") == list("abcde")
    assert names(table, "test") == ["f", "g"]
    table.text("test.csv", "\n".join([head, *lines[5:7], "zz.jpg,cat,1"]))
    assert 'test.csv, line 4: there is no image "zz.jpg"' in message(table)


def test_one_csv_for_folders_of_splits(table: Any) -> None:
    for split, letters in (("train", "abcde"), ("test", "fgh")):
        (table.root / split).mkdir()
        for name in letters:
            (table.root / "photos" / f"{name}.jpg").rename(table.root / split / f"{name}.jpg")
    description = (table.root / "mtl-folder.toml").read_text("utf-8")
    table.describe(description.replace("photos/{name}.jpg", "{split}").replace("[splits]\ntest = 0.25", ""))
    assert names(table, "train") == list("abcde")
    assert names(table, "test") == list("fgh")
    table.text("labels.csv", (table.root / "labels.csv").read_text("utf-8") + "zz.jpg,cat,1\n")
    assert 'labels.csv, line 10: there is no image "zz.jpg"' in message(table)


def test_classes_from_folders(tree: Any) -> None:
    """As torchvision's ImageFolder lies on a disk."""
    for split, kind, letters in (
        ("train", "cat", "abc"),
        ("train", "dog", "ad"),
        ("test", "cat", "x"),
        ("test", "dog", "y"),
    ):
        tree.images(*letters, at=f"{split}/{kind}/{{name}}.jpg")
    tree.describe('images = "{split}/{class}/{name}.jpg"\n[tasks.species]\nkind = "classification"\ncolumn = "{class}"')
    data = tree.open()
    assert list(data.names) == ["cat/a", "cat/b", "cat/c", "dog/a", "dog/d"]
    assert [int(data[i].targets["species"]) for i in range(5)] == [0, 0, 0, 1, 1]
    assert data.tasks["species"].classes == ("cat", "dog")


def test_two_images_of_one_name(flat: Any) -> None:
    flat.picture("images/a.png", np.zeros((24, 32, 3), np.uint8))
    flat.describe(f'images = "images"\n[splits]\ntest = 0.25\n{TASK}"masks"')
    assert "a.png: has the name of a.jpg; expected one file per name" in message(flat)


def test_hidden_files_are_no_images(flat: Any) -> None:
    flat.text("images/._a.jpg", "what another system leaves")
    flat.describe(f'images = "images"\n[splits]\ntest = 0.25\n{TASK}"masks"')
    assert len(names(flat, "train")) + len(names(flat, "test")) == 8


def test_missing_files_and_empty_cells_are_missing_labels(table: Any) -> None:
    table.labels(lambda raw: raw.classes, "a", "c", "h", at="masks/{name}.png")
    path = table.root / "mtl-folder.toml"
    path.write_text(path.read_text("utf-8") + f'\n{TASK}"masks/{{name}}.png"\n', "utf-8")
    csv = table.root / "labels.csv"
    csv.write_text("".join(csv.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")  # h has no row
    found = {}
    for split in ("train", "test"):
        data = table.open(split, size=(8, 8))
        assert data.tasks.names == ("species", "weight", "parts")
        found |= dict(zip(data.names, data.labelled.tolist(), strict=True))
        for i, name in enumerate(data.names):
            targets = data[i].targets
            there = [bool(data.tasks[task].valid(targets[task][None]).any()) for task in data.tasks.names]
            assert there == found[name]
    assert found == {
        "a": [True, True, True], "b": [True, True, False], "c": [False, True, True], "d": [True, False, False],
        "e": [True, True, False], "f": [True, True, False], "g": [False, False, False], "h": [False, False, True],
    }  # fmt: skip


@pytest.mark.parametrize("at", ["{cell}", "below/{cell}"])
def test_a_csv_alone_names_the_images(table: Any, at: str) -> None:
    """Its cells are paths, relative to the CSV or to the root."""
    rows = (table.root / "labels.csv").read_text("utf-8").replace("\n", "\nphotos/").removesuffix("photos/")
    (table.root / "labels.csv").unlink()
    table.text(at.format(cell="labels.csv"), rows)
    description = (table.root / "mtl-folder.toml").read_text("utf-8")
    table.describe(
        description.replace('images = "photos/{name}.jpg"\n', "").replace("labels.csv", at.format(cell="labels.csv"))
    )
    data = table.open()
    assert len(data) == 6
    assert set(data.names) < {f"photos/{letter}.jpg" for letter in LETTERS}
    table.text(at.format(cell="labels.csv"), rows.replace("photos/b", "photos/z"))
    assert 'labels.csv, line 3: there is no image "photos/z.jpg"' in message(table)
    table.text(at.format(cell="labels.csv"), rows.replace("photos/", ""))
    assert 'no cell of column "image" is the path of an image' in message(table)
    assert 'images = "photos/{name}.jpg"' in message(table)


def test_two_values_of_which_one_is_missing(tree: Any) -> None:
    tree.images(*"abcd", at="photos/{name}.jpg")
    tree.text("labels.csv", "image\tx\ty\na\t1\t2\nb\t\t4\nc\t5\t\nd\t\t\n")
    tree.describe(
        'images = "photos"\ncsv = "labels.csv"\n[splits]\ntest = "test.txt"\n'
        '[tasks.point]\nkind = "image-regression"\ncolumn = ["x", "y"]'
    )
    tree.text("test.txt", "a\n")
    data = tree.open()
    assert data.labelled.tolist() == [[True], [True], [False]]
    values = [data[i].targets["point"] for i in range(3)]
    assert [value.isfinite().tolist() for value in values] == [[False, True], [True, False], [False, False]]
    assert tree.open("test")[0].targets["point"].tolist() == [1.0, 2.0]

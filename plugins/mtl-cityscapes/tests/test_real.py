"""Real label files and the published split, where they are."""

from __future__ import annotations

import shutil
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_cityscapes import Cityscapes
from mtl_cityscapes.labels import CLASSES, LAST_ID, _decode_uids, class_of_id
from mtl_cityscapes.pictures import read_ids
from mtl_core import DataError, load_experiment, open_hooks
from mtl_core import label_mask as draw_label_mask


@pytest.fixture(scope="module")
def samples(data: Path) -> Path:
    root = data / "samples" / "cityscapes"
    if not root.is_dir():
        pytest.skip(f"no samples of Cityscapes in {root}")
    return root


def label_files(samples: Path) -> list[Path]:
    return sorted(samples.glob("gtFine/*/*/*_labelIds.png"))


@pytest.mark.parametrize("classes", [19, 7])
def test_images_and_labels_are_read(samples: Path, classes: int) -> None:
    dataset = Cityscapes(root=str(samples), tasks=("segmentation",), classes=classes).build_dataset("train")
    assert dataset.names == [f"aachen_00000{i}_000019" for i in range(3)]
    assert dataset.labelled is None
    sample = dataset[1]
    assert sample.image.shape == (3, 1024, 2048)
    with Image.open(samples / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png") as picture:
        assert np.array_equal(sample.image, np.asarray(picture).transpose(2, 0, 1))
    label = sample.targets["segmentation"]
    assert label.shape == (1024, 2048)
    counts = (label[label >= 0]).bincount(minlength=classes)
    assert CLASSES[classes][int(counts.argmax())] in ("road", "flat", "building", "construction")
    assert (label >= 0).float().mean() > 0.85


def test_sky_is_above_the_road(samples: Path) -> None:
    options = {"tasks": ("segmentation",), "classes": 7, "size": (128, 256)}
    dataset = Cityscapes(root=str(samples), **options).build_dataset("train")
    rows = torch.arange(128).view(-1, 1).expand(128, 256)
    for i in range(3):
        label = dataset[i].targets["segmentation"]
        sky, flat = (rows[label == CLASSES[7].index(name)].float().mean() for name in ("sky", "flat"))
        assert flat - sky > 40


def test_small_labels_are_those_of_a_nearest_neighbour(samples: Path) -> None:
    """What Pillow's nearest neighbour gives, which the published small trees were made with."""
    dataset = Cityscapes(root=str(samples), tasks=("segmentation",), size=(256, 512)).build_dataset("train")
    table = class_of_id(19, "category")
    for i, path in enumerate(label_files(samples)[:3]):
        with Image.open(path) as picture:
            small = np.asarray(picture.resize((512, 256), Image.Resampling.NEAREST))
        assert torch.equal(dataset[i].targets["segmentation"], table[torch.from_numpy(small.astype(np.int64))])


def test_labels_without_images_are_told_of(samples: Path) -> None:
    with pytest.raises(DataError, match=r"leftImg8bit/val: no images of the val split"):
        Cityscapes(root=str(samples), tasks=("segmentation",)).build_dataset("test")


def test_real_ids_are_known_and_rare_ones_are_few(samples: Path) -> None:
    """Both readings of 7 classes differ in about 0.1 % of the pixels; so many are in no class at all."""
    files = label_files(samples)
    assert len(files) == 6
    ids = torch.stack([read_ids(path) for path in files]).long()
    assert ids.max() <= LAST_ID
    one = class_of_id(7, "category")[ids]
    two = class_of_id(7, "ignored")[ids]
    assert 0 < (one != two).float().mean() < 0.005
    assert torch.equal(two >= 0, class_of_id(19, "category")[ids] >= 0)


def test_real_instance_ids_are_uids_without_parts(samples: Path) -> None:
    """Panoptic Parts extends these numbers; taken apart they give the label ids of the other file."""
    for path in label_files(samples):
        with Image.open(path.with_name(path.name.replace("labelIds", "instanceIds"))) as picture:
            found = _decode_uids(torch.from_numpy(np.asarray(picture).astype(np.int64)))
        assert torch.equal(found.sid, read_ids(path).long())
        assert found.pid.max() == 0
        assert found.iid.max() > 0


def test_the_published_split_fits_the_published_arrays(data: Path, mtan: Path, tmp_path: Path) -> None:
    """Row i of its 2975 × 2 table is image i: a training split of as many files, all links to one.

    What the files hold does not matter here, so that the labels' folders are the images'.
    """
    split = data / "label-splits" / "cityscapes-onelabel.pth"
    if not split.is_file() or not entry_points(group="mtl.plugins", name="split-file"):
        pytest.skip("needs cityscapes-onelabel.pth and the plugin split-file")
    images = mtan / "train" / "image"
    for number in range(4, 2975):
        (images / f"{number}.npy").symlink_to(images / "0.npy")
    for kind in ("label_7", "depth"):
        shutil.rmtree(mtan / "train" / kind)
        (mtan / "train" / kind).symlink_to(images)
    file = tmp_path / "published.toml"
    file.write_text(
        f'name = "published"\n[plugins.cityscapes]\nroot = "{mtan}"\nclasses = 7\n'
        f'[plugins.split-file]\npath = "{split}"\ncolumns = ["segmentation", "depth"]\n',
        "utf-8",
    )
    experiment = load_experiment(file)
    hooks = open_hooks(experiment, ("build_dataset", "make_label_mask"))
    dataset = hooks.build_dataset("train")
    mask = draw_label_mask(experiment, hooks, dataset, None)
    assert dataset.names is not None
    assert (dataset.names[2], dataset.names[2974]) == ("2", "2974")
    assert mask.sum(0).tolist() == [1487, 1488]
    assert mask[:5].tolist() == [[False, True], [True, False], [False, True], [True, False], [True, False]]

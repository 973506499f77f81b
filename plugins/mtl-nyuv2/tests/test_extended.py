"""Further images with depth alone: from folders that hold nothing else, into every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import DataError, Experiment, ExperimentError, train
from mtl_core.testing import ToyLabels, ToyNetwork
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.extended import DepthExtended

SIZE = (32, 40)


def write(root: Path, count: int, folders: tuple[str, ...], first: int = 0) -> Path:
    """Pictures in the published form, with the folders of some labels; depth k + 1 metres in picture k."""
    noise = np.random.default_rng(0)
    for split in ("train", "test"):
        for folder in ("image", *folders):
            (root / split / folder).mkdir(parents=True)
        for k in range(first, first + count):
            made = {
                "image": noise.integers(0, 255, (*SIZE, 3), np.uint8),
                "label": np.full(SIZE, 1 + k % 13, np.uint8),
                "depth": np.full(SIZE, 1000 * (k + 1), np.uint16),
                "normal": np.full((*SIZE, 3), (128, 128, 1), np.uint8),
            }
            for folder in ("image", *folders):
                Image.fromarray(made[folder]).save(root / split / folder / f"{k}.png")
    return root


def test_only_depth_is_needed_and_given(tmp_path: Path) -> None:
    root = write(tmp_path / "more", 3, ("depth",), first=7)
    (extra,) = DepthExtended(root=str(root), per_batch=2).build_extra_datasets()
    assert (extra.per_batch, len(extra.dataset), extra.dataset.tasks.names) == (2, 3, ("depth",))
    assert [float(extra.dataset[i].targets["depth"].unique()) for i in range(3)] == [8.0, 9.0, 10.0]


def test_every_batch_has_them(tmp_path: Path) -> None:
    main = write(tmp_path / "main", 6, ("label", "depth", "normal"))
    more = write(tmp_path / "more", 3, ("depth",), first=7)
    plugins = [
        NYUv2(root=str(main)),
        ToyLabels(never=("depth",)),
        ToyNetwork(),
        DepthExtended(root=str(more), per_batch=4),
    ]
    made = Experiment(name="e", plugins=plugins, epochs=1, batch_size=2, validation=0.0)
    (record,) = train(made, tmp_path / "run").history()
    assert record["train/labels/depth"] == pytest.approx(4 / 6)
    assert record["train/active/depth"] == 1
    assert record["heads/labels/depth"] == pytest.approx(4 / 6)


def test_another_size_is_refused(tmp_path: Path) -> None:
    main = write(tmp_path / "main", 4, ("label", "depth", "normal"))
    more = write(tmp_path / "more", 2, ("depth",))
    extended = DepthExtended(root=str(more), size=(16, 20))
    made = Experiment(name="e", plugins=[NYUv2(root=str(main)), ToyLabels(), ToyNetwork(), extended], batch_size=2)
    with pytest.raises(DataError, match=r"extra images of \(16, 20\) pixels .*, the training images have \(32, 40\)"):
        train(made, tmp_path / "run")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        DepthExtended(root=str(tmp_path / "nothing")).build_extra_datasets()


@pytest.mark.parametrize(
    ("options", "message"), [({"per_batch": 0}, "per_batch"), ({"tasks": ("dept",)}, "no task 'dept'")]
)
def test_options(options: dict[str, object], message: str, tmp_path: Path) -> None:
    plugin = DepthExtended.__new__(DepthExtended)
    with pytest.raises((ExperimentError, ValueError), match=message):
        plugin.__init__(root=str(tmp_path), **options)  # type: ignore[misc]


def test_the_mask_is_depth_alone(tmp_path: Path) -> None:
    from mtl_core.testing import prepare

    main = write(tmp_path / "main", 4, ("label", "depth", "normal"))
    more = write(tmp_path / "more", 2, ("depth",))
    plugins = [NYUv2(root=str(main)), ToyLabels(), ToyNetwork(), DepthExtended(root=str(more))]
    ((data, per_batch),) = prepare(Experiment(name="e", plugins=plugins, batch_size=2)).extras
    assert per_batch == 4
    assert data.labelled.tolist() == [[False, True, False]] * 2
    sample, _, _ = data[1]
    assert (sample.targets["segmentation"] == -1).all()
    assert torch.equal(sample.targets["depth"], torch.full((1, *SIZE), 2.0))

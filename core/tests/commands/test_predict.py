"""``mtl predict``: images in, files out; what is no image, and what would be overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core.commands.predict import (
    _LARGEST,
    _as_tensor,
    _check_inputs,
    _check_stems,
    _read_image,
    _sized,
    _targets,
    _write_label,
)
from mtl_core.errors import DataError
from mtl_core.run_folder import RunFolder
from mtl_core.testing import command, make_tasks

TASKS = make_tasks("segmentation", "depth", "shading")


def picture(path: Path, size: tuple[int, int] = (6, 4), **options: object) -> Path:
    Image.new("RGB", size, (255, 0, 0)).save(path, **options)
    return path


def test_every_task_gets_a_file_of_the_size_that_is_asked_for(
    toy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy_file.parent
    image = picture(folder / "photo.png", (20, 10))
    assert command("train", toy_file, "--out", folder / "run", "--quiet") == 0
    for size, expected in (("trained", (32, 32)), ("original", (20, 10))):
        capsys.readouterr()
        assert command("predict", folder / "run", image, "--out", folder / size, "--size", size) == 0
        assert f"{folder / size}/photo_depth.png" in capsys.readouterr().out.splitlines()
        for task in ("segmentation", "depth", "normals"):
            with Image.open(folder / size / f"photo_{task}.png") as made:
                assert made.size == expected
    assert command("predict", folder / "run", image, "--out", folder / "x", "--size", "orignal") == 2
    assert 'expected trained or original; did you mean "original"?' in capsys.readouterr().err
    assert not (folder / "x").exists()
    assert RunFolder(folder / "run").results.is_file()


def test_files_are_named_by_image_and_task(tmp_path: Path) -> None:
    names = [path.name for path in _targets(Path("a/b/photo.jpg"), tmp_path, TASKS)]
    assert names == ["photo_segmentation.png", "photo_depth.png", "photo_shading.npy", "photo_all.png"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a/x\.png and b/x\.jpg would both become .*x_\*\.png"):
        _check_stems([Path("a/x.png"), Path("b/x.jpg")], tmp_path)
    _check_stems([Path("a/x.png"), Path("a/y.png")], tmp_path)


def test_no_image_is_overwritten(tmp_path: Path) -> None:
    photo, other = picture(tmp_path / "photo.png"), picture(tmp_path / "photo_depth.png")
    _check_inputs([photo], tmp_path, TASKS)
    with pytest.raises(DataError, match=f"{other}: would be overwritten by the prediction of {photo}; choose"):
        _check_inputs([photo, other], tmp_path, TASKS)
    (tmp_path / "photo_segmentation.png").symlink_to(photo)
    with pytest.raises(DataError, match=r"photo_segmentation\.png: is a link"):
        _check_inputs([photo], tmp_path, TASKS)


def test_an_image_is_turned_as_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    turned = _read_image(picture(tmp_path / "photo.jpg", (6, 4), exif=exif))
    assert (turned.size, turned.mode) == ((4, 6), "RGB")
    Image.new("LA", (3, 2)).save(tmp_path / "grey.png")
    assert _as_tensor(_read_image(tmp_path / "grey.png")).shape == (3, 2, 3)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for path, message in {
        tmp_path / "lost.png": "no such image",
        tmp_path: "not a regular file; expected an image such as a JPEG or PNG file",
        tmp_path / "text.png": "cannot be read as an image; expected a JPEG or PNG file",
    }.items():
        with pytest.raises(DataError, match=f"^{path}: {message}$"):
            _read_image(path)


def test_an_image_that_is_too_large_says_the_most_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) in (_LARGEST, _LARGEST + 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(DataError, match=rf": 24 pixels; expected at most {_LARGEST}: make the image smaller"):
        _read_image(picture(tmp_path / "photo.png"))


def test_a_value_per_image_has_no_size_to_change() -> None:
    scene = make_tasks("scene")["scene"]
    raw, image = torch.randn(1, scene.channels), torch.zeros(3, 8, 8)
    assert _sized(scene, raw, image) is raw
    assert _sized(TASKS["depth"], torch.zeros(1, 1, 4, 4), image).shape == (1, 1, 8, 8)


def test_a_label_is_written_as_its_task_says(tmp_path: Path) -> None:
    _write_label(TASKS["depth"], torch.full((1, 2, 3), 1.25), tmp_path / "depth.png")
    with Image.open(tmp_path / "depth.png") as made:
        assert np.asarray(made).tolist() == [[1250] * 3] * 2
    values = torch.randn(2, 2, 3)
    _write_label(TASKS["shading"], values, tmp_path / "shading.npy")
    assert np.array_equal(np.load(tmp_path / "shading.npy"), values.numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth.png", "shading.npy"]

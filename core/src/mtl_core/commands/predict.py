"""``mtl predict``: labels for images, from a run folder alone; no data set is needed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from mtl_core.commands.observers import open_observers
from mtl_core.errors import DataError, MtlError, nearest
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder, write_atomically
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.trained_network import TrainedNetwork, load_network


def predict(
    run: RunFolder,
    images: Sequence[Path],
    out: Path,
    name: str = "last",
    overrides: Sequence[str] = (),
    size: str = "trained",
) -> list[Path]:
    """Predict every task of every image.

    :param out: receives ``IMAGE_TASK.png`` (classes as 8-bit indices, depth as 16-bit millimetres, normals as
        128 + 127·n) or ``.npy`` (other tasks), and ``IMAGE_all.png``, a picture of all
    :param size: of the files: ``"trained"``, the size that the network was trained with; ``"original"``, that of each
        image: the network sees the image at the trained size, and what its heads give is enlarged before it is decoded
    :return: the files written
    :raises DataError: a file is no image; two images would become the same files, or one of them would be overwritten
    """
    _check_size(size)
    _check_stems(images, out)
    pictures = [_read_image(path) for path in images]
    network = load_network(run, name, overrides=overrides)
    _check_inputs(images, out, network.tasks)
    out.mkdir(parents=True, exist_ok=True)
    observers = open_observers()
    written: list[Path] = []
    for path, picture in zip(images, pictures, strict=True):
        written += _predict_one(network, path, picture, out, observers, size == "original")
    return written


def _check_stems(images: Sequence[Path], out: Path) -> None:
    """Every image gets files of its own."""
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in seen:
            raise DataError(f"{seen[path.stem]} and {path} would both become {out / path.stem}_*.png")
        seen[path.stem] = path


def _check_inputs(images: Sequence[Path], out: Path, tasks: Tasks) -> None:
    """No image is overwritten by a prediction."""
    for path in images:
        for target in _targets(path, out, tasks):
            if target.is_symlink():
                raise DataError(f"{target}: is a link, and a prediction would be written to where it leads; remove it")
            if lost := next((image for image in images if target.exists() and target.samefile(image)), None):
                whose = "its own prediction" if lost is path else f"the prediction of {path}"
                raise DataError(f"{lost}: would be overwritten by {whose}; choose another --out")


def _targets(path: Path, out: Path, tasks: Tasks) -> list[Path]:
    """The files of one image: one for each task, and the sheet."""
    return [*(out / f"{path.stem}_{task.name}{task.file_ending}" for task in tasks), out / f"{path.stem}_all.png"]


_SIZES = ("trained", "original")


def _check_size(size: str) -> None:
    if size not in _SIZES:
        raise MtlError(f"--size {size}: expected trained or original{nearest(size, _SIZES)}")


_LARGEST = 178_956_970
"""Pixels of the largest image that is read; Pillow takes a larger one for a decompression bomb."""


def _read_image(path: Path) -> Image.Image:
    """An image as a camera meant it: turned by its EXIF orientation, RGB."""
    if not path.exists():
        raise DataError(f"{path}: no such image")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; expected an image such as a JPEG or PNG file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder does not understand is an error, or does not matter
            with Image.open(path) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
    except (PermissionError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+ pixels", str(error))
        size = found[0] if found else "too many pixels"
        raise DataError(f"{path}: {size}; expected at most {_LARGEST}: make the image smaller") from error
    except Exception as error:  # decoders of damaged files raise a dozen kinds of error
        raise DataError(f"{path}: cannot be read as an image; expected a JPEG or PNG file") from error


def _predict_one(
    network: TrainedNetwork, path: Path, picture: Image.Image, out: Path, observers: Hooks, enlarge: bool = False
) -> list[Path]:
    height, width = network.image_size
    seen = _as_tensor(picture.resize((width, height), Image.Resampling.BILINEAR))
    raw = network.raw(seen[None])
    image = _as_tensor(picture) if enlarge else seen
    # enlarged before it is decoded: classes cannot be interpolated
    found = {task.name: task.decode(_sized(task, raw[task.name], image))[0] for task in network.tasks}
    *files, _ = _targets(path, out, network.tasks)
    for task, file in zip(network.tasks, files, strict=True):
        _write_label(task, found[task.name], file)
    return [*files, *observers.after_predict(image, found, network.tasks, out, path.stem)]


def _as_tensor(picture: Image.Image) -> Tensor:
    """An image as uint8 (3, H, W)."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def _sized(task: Task, prediction: Tensor, image: Tensor) -> Tensor:
    """What a head gives, bilinear at the size of an image (3, H, W)."""
    size = image.shape[-2:]
    if not task.dense or prediction.shape[-2:] == size:
        return prediction
    return F.interpolate(prediction, tuple(size), mode="bilinear", align_corners=False)


def _write_label(task: Task, label: Tensor, path: Path) -> None:
    """One task's prediction as a file that other programs read."""
    array = task.export(label)
    if path.suffix == ".npy":
        write_atomically(path, lambda part: _save_array(part, array))
    else:
        write_atomically(path, lambda part: Image.fromarray(array).save(part, "PNG"))


def _save_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:  # numpy would add .npy to the name of a path
        np.save(file, array)

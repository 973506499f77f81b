"""``mtl predict``: labels for images, from a run folder alone; no data set is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mtl_core.commands.observers import open_observers
from mtl_core.errors import DataError
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.network import Network
from mtl_core.training.trained import load_network


def predict(
    run: RunFolder, images: Sequence[Path], out: Path, name: str = "last", overrides: Sequence[str] = ()
) -> list[Path]:
    """Predict every task of every image.

    :param out: receives ``IMAGE_TASK.png`` (classes as 8-bit indices, depth as 16-bit millimetres, normals as
        128 + 127·n) or ``.npy`` (other tasks), and ``IMAGE_all.png``, a picture of all
    :return: the files written
    :raises DataError: a file is no image; two images would become the same files, or one of them would be overwritten
    """
    check_stems(images, out)
    pictures = [read_image(path) for path in images]
    network, size = load_network(run, name, overrides)
    check_inputs(images, out, network.tasks)
    out.mkdir(parents=True, exist_ok=True)
    observers = open_observers()
    written: list[Path] = []
    for path, picture in zip(images, pictures, strict=True):
        written += predict_one(network, size, path, picture, out, observers)
    return written


def check_stems(images: Sequence[Path], out: Path) -> None:
    """Every image gets files of its own."""
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in seen:
            raise DataError(f"{seen[path.stem]} and {path} would both become {out / path.stem}_*.png")
        seen[path.stem] = path


def check_inputs(images: Sequence[Path], out: Path, tasks: Tasks) -> None:
    """No image is overwritten by a prediction."""
    given = {path.resolve(): path for path in images}
    for path in images:
        for target in targets(path, out, tasks):
            if lost := given.get(target.resolve()):
                whose = "its own prediction" if lost is path else f"the prediction of {path}"
                raise DataError(f"{lost}: would be overwritten by {whose}; choose another --out")


def targets(path: Path, out: Path, tasks: Tasks) -> list[Path]:
    """The files of one image: one for each task, and the sheet."""
    return [*(out / f"{path.stem}_{task.name}{task.file_ending}" for task in tasks), out / f"{path.stem}_all.png"]


def read_image(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an image; expected a JPEG or PNG file") from error


@torch.no_grad()
def predict_one(
    network: Network, size: tuple[int, int], path: Path, picture: Image.Image, out: Path, observers: Hooks
) -> list[Path]:
    resized = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    image = torch.from_numpy(resized.copy()).permute(2, 0, 1)
    found = {n: p[0] for n, p in decoded(network, image[None]).items()}
    *files, _ = targets(path, out, network.tasks)
    for task, file in zip(network.tasks, files, strict=True):
        write_label(task, found[task.name], file)
    return [*files, *observers.after_predict(image, found, network.tasks, out, path.stem)]


def decoded(network: Network, images: Tensor) -> dict[str, Tensor]:
    tasks: Tasks = network.tasks
    predictions = network(images)
    return {task.name: task.decode(predictions[task.name].float()) for task in tasks}


def write_label(task: Task, label: Tensor, path: Path) -> None:
    """One task's prediction as a file that other programs read."""
    array = task.export(label)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)

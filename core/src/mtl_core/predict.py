"""``mtl predict``: labels for images, from a run folder alone; no data set is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mtl_core import checkpoint
from mtl_core.errors import DataError
from mtl_core.hooks import Hooks
from mtl_core.pictures import sheet
from mtl_core.run import Run
from mtl_core.session import build_network, open_hooks
from mtl_core.settings import load_experiment
from mtl_core.tasks import Depth, Normals, Segmentation, Task, Tasks, from_plain
from mtl_core.training import Network


def predict(
    run: Run, images: Sequence[Path], out: Path, name: str = "last", overrides: Sequence[str] = ()
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
    return [
        f
        for path, picture in zip(images, pictures, strict=True)
        for f in predict_one(network, size, path, picture, out)
    ]


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
    return [*(out / f"{path.stem}_{task.name}{ending(task)}" for task in tasks), out / f"{path.stem}_all.png"]


def ending(task: Task) -> str:
    is_picture = isinstance(task, Segmentation | Normals) or (isinstance(task, Depth) and not task.disparity)
    return ".png" if is_picture else ".npy"


def load_network(run: Run, name: str = "last", overrides: Sequence[str] = ()) -> tuple[Network, tuple[int, int]]:
    """A run's trained network, in evaluation mode on the CPU, and the image size (H, W) that it was trained with.

    :param overrides: settings that differ on this machine, such as ``plugins.name.weights=none``
    """
    path = run.require().checkpoint(name)
    state = checkpoint.load(path)
    hooks = open_hooks(load_experiment(run.experiment, overrides), ("build_backbone", "build_heads"))
    return network_from(hooks, state, path)


def network_from(hooks: Hooks, state: dict[str, Any], path: Path) -> tuple[Network, tuple[int, int]]:
    tasks, size = from_plain(state["tasks"]), (state["image_size"][0], state["image_size"][1])
    network = build_network(0, hooks, tasks, size)
    own = {n.removeprefix("network."): v for n, v in state["step"].items() if n.startswith("network.")}
    checkpoint.restore(path, network, own)
    return network.eval(), size


def read_image(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an image; expected a JPEG or PNG file") from error


@torch.no_grad()
def predict_one(network: Network, size: tuple[int, int], path: Path, picture: Image.Image, out: Path) -> list[Path]:
    resized = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    image = torch.from_numpy(resized.copy()).permute(2, 0, 1)
    found = {n: p[0] for n, p in decoded(network, image[None]).items()}
    *files, drawn = targets(path, out, network.tasks)
    for task, file in zip(network.tasks, files, strict=True):
        write_label(task, found[task.name], file)
    sheet([(image, {name: (label, None) for name, label in found.items()})], network.tasks).save(drawn)
    return [*files, drawn]


def decoded(network: Network, images: Tensor) -> dict[str, Tensor]:
    tasks: Tasks = network.tasks
    predictions = network(images)
    return {task.name: task.decode(predictions[task.name].float()) for task in tasks}


def write_label(task: Task, label: Tensor, path: Path) -> None:
    """One task's prediction as a file that other programs read."""
    array = label.numpy()
    if path.suffix == ".npy":
        np.save(path, array)
    elif isinstance(task, Segmentation):
        Image.fromarray(array.astype(np.uint8)).save(path)
    elif isinstance(task, Depth):
        Image.fromarray((array[0] * 1000).clip(0, 65535).astype(np.uint16)).save(path)
    else:
        colours = (array * 127 + 128).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(colours.transpose(1, 2, 0)).save(path)

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
        128 + 127·n) or ``.npy`` (other tasks), and ``IMAGE.png``, a picture of all
    :return: the files written
    :raises DataError: a file is no image
    """
    pictures = [read_image(path) for path in images]
    network, size = load_network(run, name, overrides)
    out.mkdir(parents=True, exist_ok=True)
    return [
        f
        for path, picture in zip(images, pictures, strict=True)
        for f in predict_one(network, size, path, picture, out)
    ]


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
    files = [write_label(task, found[task.name], out / f"{path.stem}_{task.name}") for task in network.tasks]
    drawn = out / f"{path.stem}.png"
    sheet([(image, {name: (label, None) for name, label in found.items()})], network.tasks).save(drawn)
    return [*files, drawn]


def decoded(network: Network, images: Tensor) -> dict[str, Tensor]:
    tasks: Tasks = network.tasks
    predictions = network(images)
    return {task.name: task.decode(predictions[task.name].float()) for task in tasks}


def write_label(task: Task, label: Tensor, stem: Path) -> Path:
    """One task's prediction as a file that other programs read."""
    array = label.numpy()
    if isinstance(task, Segmentation):
        return save_image(Image.fromarray(array.astype(np.uint8)), stem)
    if isinstance(task, Depth) and not task.disparity:
        return save_image(Image.fromarray((array[0] * 1000).clip(0, 65535).astype(np.uint16)), stem)
    if isinstance(task, Normals):
        return save_image(
            Image.fromarray((array * 127 + 128).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)), stem
        )
    path = stem.with_name(stem.name + ".npy")
    np.save(path, array)
    return path


def save_image(image: Image.Image, stem: Path) -> Path:
    path = stem.with_name(stem.name + ".png")
    image.save(path)
    return path

"""Views that show windows of a batch: image and labels move together, labels as their physics asks.

Shape letters: V views, B samples, C channels, H and W image size. A window is a row (enlargement s ≥ 1, x, y): the
part of 1/s of the width and height whose middle lies at (x, y) of the room that is left, −1 to 1, x to the right and
y down, enlarged to the image's size. Corner pixels' centres fall on corner pixels' centres.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks


def draw_windows(views: int, samples: int, scales: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """Random windows, (V − 1, B, 3): one of the enlargements each, anywhere in the image.

    :param scales: enlargements, each at least 1 and equally likely
    """
    chosen = torch.randint(len(scales), (views - 1, samples, 1), generator=generator)
    places = 2 * torch.rand(views - 1, samples, 2, generator=generator) - 1
    return torch.cat((torch.tensor(scales)[chosen], places), -1)


def image_views(images: Tensor, views: int, windows: Tensor | None) -> Tensor:
    """(B, 3, H, W) → (V, B, 3, H, W): view 0 is the image, the others its windows, or the image if there are none."""
    if windows is None:
        return images.expand(views, *images.shape)
    # drawn on the host, so that all devices show the same windows; a few numbers to copy
    there = windows.to(images.device, non_blocking=True)
    others = [_sampled(images, window, "bilinear") for window in there]
    return torch.stack([images, *others])


def label_views(tasks: Tasks, targets: dict[str, Tensor], windows: Tensor) -> dict[str, Tensor]:
    """Labels as one view shows them: enlarging by s divides metric depth by s, and so on; see :class:`Task`.

    :param windows: (B, 3), of this view
    """
    there = windows.to(next(iter(targets.values())).device, non_blocking=True)
    return {t.name: _seen(t, targets[t.name], there) if t.dense else targets[t.name] for t in tasks}


def _seen(task: Task, target: Tensor, windows: Tensor) -> Tensor:
    values = (
        _smooth(task, target, windows) if task.interpolation == "bilinear" else _sampled(target, windows, "nearest")
    )
    return task.zoom(values, windows[:, 0].view(-1, *[1] * (target.ndim - 1)))


def _smooth(task: Task, target: Tensor, windows: Tensor) -> Tensor:
    """Means of valid pixels alone, directions renormalised; invalid where less than half of the weight is valid."""
    valid = task.valid(target)
    # validity is sampled like the values: dividing by it leaves invalid neighbours out of the mean
    both = torch.cat((torch.where(valid, target, torch.zeros_like(target)), valid.to(target.dtype)), 1)
    mixed = _sampled(both, windows, "bilinear")
    share = mixed[:, -1:]
    mean = mixed[:, :-1] / share.clamp(min=0.5)
    mean = task.mixed(mean)
    return torch.where(share >= 0.5, mean, task.blank(mean))


def _sampled(values: Tensor, windows: Tensor, mode: str) -> Tensor:
    """(B, C, H, W), or classes (B, H, W), as the windows (B, 3) show them."""
    # grid_sample takes floating point only; class numbers survive "nearest"
    maps = values if values.is_floating_point() else values.to(torch.float32)
    maps = maps if maps.ndim == 4 else maps.unsqueeze(1)
    grid = F.affine_grid(_affine(windows.to(maps)), list(maps.shape), align_corners=True)
    # "border": rounding may move a coordinate just outside of the image
    moved = F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=True)
    return moved.view(values.shape).to(values.dtype)


def _affine(windows: Tensor) -> Tensor:
    """(B, 3) → (B, 2, 3), from a view's coordinates to the image's, both −1 to 1."""
    scale, x, y = windows.unbind(-1)
    size = 1 / scale
    none = torch.zeros_like(scale)
    room = 1 - size
    return torch.stack((torch.stack((size, none, x * room), -1), torch.stack((none, size, y * room), -1)), -2)

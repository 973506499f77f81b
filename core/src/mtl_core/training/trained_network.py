"""A run's network in three lines of Python: folder → network → predictions in the tasks' units.

Shape letters: B samples, O_t channels of task t, L_t channels of its label space, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.errors import CheckpointError, DataError, MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.network import Network
from mtl_core.training.session import build_network
from mtl_core.training.trained import CHECKPOINTS, open_network, unknown_checkpoint

_Size = tuple[int, int]


def load_network(
    run: RunFolder | Path | str,
    checkpoint: str = "last",
    *,
    device: torch.device | str = "cpu",
    overrides: Sequence[str] = (),
    multiple_of: int | None = None,
) -> TrainedNetwork:
    """A run's trained network, in evaluation mode; no data set is opened.

    ::

        network = load_network("runs/rooms-0")
        predictions = network(images)         # (B, 3, H, W), uint8 or float in 0..1
        depth = predictions["depth"]          # (B, 1, H, W), metres

    :param run: the run's folder
    :param checkpoint: ``"last"``, or ``"best"`` on validation data
    :param overrides: settings that differ on this machine, such as ``plugins.smp.weights=none``
    :param multiple_of: images are padded so that H and W are multiples of it; None: what the backbone says
        (``multiple_of``), or 1
    :raises CheckpointError: the folder holds no run, or its checkpoint is missing, damaged or of other networks
    """
    if checkpoint not in CHECKPOINTS:
        raise CheckpointError(unknown_checkpoint("checkpoint", checkpoint))
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    network, size, hooks = open_network(folder, checkpoint, overrides)
    return TrainedNetwork(network, size, hooks, multiple_of).to(device)


class TrainedNetwork(nn.Module):
    """A trained network that takes images of any size.

    Where H or W is no multiple of what the network needs, the image's last rows and columns are repeated and the
    predictions are cut to H × W again. A network sees the pixels that it is given: objects that are far larger or
    smaller than in training are predicted worse, so resize such images first.

    :param size: (H, W) of the images that it was trained with
    :param hooks: the plugins that made it, for networks whose heads give one size only: built again for another
    """

    def __init__(self, network: Network, size: _Size, hooks: Hooks, multiple_of: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.image_size = size
        self._hooks = hooks
        declared: int = getattr(network.backbone, "multiple_of", 1)
        self.multiple_of = declared if multiple_of is None else multiple_of
        self._resized: tuple[_Size, Network] | None = None
        self.eval()

    @property
    def tasks(self) -> Tasks:
        return self.network.tasks

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W), or one (3, H, W) → task → prediction as a label of the task.

        Classes are long (B, H, W), depth is in metres (B, 1, H, W), normals are unit vectors (B, 3, H, W); a task per
        image has (B, …). One image has predictions without B.

        :param images: uint8, or float in 0..1
        :raises DataError: the images have another form
        """
        return self._decoded(images, {task.name: task.decode for task in self.tasks})

    @torch.no_grad()
    def in_label_space(self, images: Tensor) -> dict[str, Tensor]:
        """As :meth:`forward`, but classes as probabilities: task → float (B, L_t, H, W), or (B, L_t) per image."""
        return self._decoded(images, {task.name: task.to_label_space for task in self.tasks})

    @torch.no_grad()
    def raw(self, images: Tensor) -> dict[str, Tensor]:
        """What the heads give: task → float (B, O_t, H, W), or (B, O_t) for a task per image."""
        _check_images(images)
        batch = images if images.ndim == 4 else images[None]
        height, width = images.shape[-2:]
        found = self._predict(_padded(batch.to(self._device), self.multiple_of))
        made = {}
        for task in self.tasks:
            prediction = found[task.name].float()
            prediction = prediction[..., :height, :width] if task.dense else prediction
            made[task.name] = prediction if images.ndim == 4 else prediction[0]
        return made

    def of_size(self, size: _Size) -> TrainedNetwork:
        """A copy whose heads give images of another size, for exporters; it shares nothing with this one.

        :raises MtlError: the weights fit one size only
        """
        made = build_network(0, self._hooks, self.tasks, size).eval()
        self._copy_weights(made, size)
        return TrainedNetwork(made.to(self._device), size, self._hooks, self.multiple_of)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _decoded(self, images: Tensor, decode: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, Tensor]:
        _check_images(images)
        found = self.raw(images if images.ndim == 4 else images[None])
        made = {name: decode[name](prediction) for name, prediction in found.items()}
        return made if images.ndim == 4 else {name: prediction[0] for name, prediction in made.items()}

    def _predict(self, images: Tensor) -> dict[str, Tensor]:
        """Predictions of the images' own size."""
        size = (images.shape[-2], images.shape[-1])
        # most heads follow the size of the image; one that did not once is not tried again
        if self._resized is None or size == self.image_size:
            found: dict[str, Tensor] = self.network(images)
            if all(found[task.name].shape[-2:] == size for task in self.tasks.dense):
                return found
        found = self._of_size(size)(images)
        return found

    def _of_size(self, size: _Size) -> Network:
        """The network, built again for images of another size; the last one is kept."""
        if self._resized is not None and self._resized[0] == size:
            # a network in a tuple is no submodule: `to` of this module does not move it
            return self._resized[1].to(self._device)
        self._resized = (size, self.of_size(size).network)
        return self._resized[1]

    def _copy_weights(self, made: Network, size: _Size) -> None:
        try:
            made.load_state_dict(self.network.state_dict())
        except RuntimeError as error:
            raise MtlError(
                f"the weights of this network fit images of {self.image_size[0]} × {self.image_size[1]} pixels only,"
                f" found {size[0]} × {size[1]}; resize the images"
            ) from error


def _padded(images: Tensor, multiple: int) -> Tensor:
    """Images whose H and W are multiples of a number, the last rows and columns repeated."""
    height, width = images.shape[-2:]
    below = -height % multiple
    right = -width % multiple
    if not below and not right:
        return images
    as_float = images if images.is_floating_point() else images.float() / 255
    return F.pad(as_float, (0, right, 0, below), mode="replicate")


def _check_images(images: object) -> None:
    """Refuse what is no image.

    :raises DataError: another type, shape or number format, or values out of range
    """
    if not isinstance(images, Tensor):
        raise DataError(f"images: found a {type(images).__name__}, expected a torch tensor; use torch.from_numpy")
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        last = images.ndim in (3, 4) and images.shape[-1] == 3
        hint = "; put the channels first: images.movedim(-1, -3)" if last else ""
        raise DataError(f"images: found shape {tuple(images.shape)}, expected (B, 3, H, W) or (3, H, W){hint}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(f"images: found {images.dtype}, expected torch.uint8 or float in 0..1")
    if images.dtype == torch.uint8 or not images.numel():
        return
    low = float(images.min())
    high = float(images.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise DataError(f"images: found values {low:g} to {high:g}, expected 0 to 1; divide by 255, or give uint8")


_TOLERANCE = 0.01
"""By which values of an image may leave 0..1: resizing overshoots a little."""

"""Surface normals.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from attrs import field
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks import losses
from mtl_core.tasks.metrics import AngleError
from mtl_core.tasks.pictures import Pixels
from mtl_core.tasks.precision import constant
from mtl_core.tasks.task import Task, setting

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Normals(Task):
    """Surface normals: labels float (B, 3, H, W), 0 where invalid; 1 − cos.

    Camera frame: x right, y down, z forward.

    :param objective: the loss, ``"cosine"`` (1 − cos) or ``"l1"`` on unit vectors (option ``loss``)
    """

    channels: int = 3
    objective: Literal["cosine", "l1"] = field(default="cosine", alias="loss", metadata=setting("the loss"))
    also_invalid: ClassVar[float | None] = 0.01
    interpolation: ClassVar[Literal["nearest", "bilinear"]] = "bilinear"
    headline: ClassVar[str] = "mean_angle"
    errors: ClassVar[frozenset[str]] = frozenset({"mean_angle", "median_angle", "rmse_angle"})
    units: ClassVar[Mapping[str, str]] = {
        "mean_angle": "°", "median_angle": "°", "rmse_angle": "°",
        "within_11.25": "%", "within_22.5": "%", "within_30": "%",
    }  # fmt: skip

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return losses.unit_l1(prediction, target) if self.objective == "l1" else losses.cosine(prediction, target)

    def valid(self, target: Tensor) -> Tensor:
        # 0 marks an invalid pixel, and resampling mixes it into its neighbours: half of the length is the limit
        square: Tensor = target.square().sum(1, keepdim=True)
        return (square > 0.25) & (square < math.inf)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, constant(0.0, target.device))

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return F.normalize(prediction, dim=1)

    def metrics(self) -> Metric:
        return AngleError(self.valid)

    def value_problems(self, label: Tensor) -> list[str]:
        length = label.norm(dim=0)[self.valid(label[None])[0, 0]]
        if torch.allclose(length, torch.ones_like(length), atol=0.02):
            return []
        return [
            f"found normals of length {length.min():.3g} to {length.max():.3g}, not of length 1; turn colours into"
            " −1..1 first, then divide by the length; write 0 0 0 where unknown"
        ]

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return F.normalize(noise, dim=1)

    def picture(self, label: Tensor, limits: tuple[float, float]) -> Pixels:
        return np.asarray(((np.nan_to_num(label.numpy()).transpose(1, 2, 0) + 1) * 127.5).clip(0, 255), np.uint8)

    @property
    def file_ending(self) -> str:
        return ".png"

    def export(self, label: Tensor) -> NDArray[Any]:
        """Normals as 128 + 127·n."""
        colours = (label.numpy() * 127 + 128).round().clip(0, 255).astype(np.uint8)
        picture: NDArray[Any] = colours.transpose(1, 2, 0)
        return picture

    def mixed(self, target: Tensor) -> Tensor:
        # F.normalize takes ten times as long on the CPU, where samples are transformed
        return target / target.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)

    def flip(self, target: Tensor) -> Tensor:
        x, y, z = target.unbind(-3)
        return torch.stack((-x, y, z), -3)

    def rotate(self, target: Tensor, radians: float) -> Tensor:
        # y points down: a positive angle turns clockwise as the image is displayed
        c = torch.cos(torch.tensor(radians))
        s = torch.sin(torch.tensor(radians))
        x, y, z = target.unbind(-3)
        return torch.stack((c * x - s * y, s * x + c * y, z), -3)

"""A small data set, label mask and network as plugins: enough to train any plugin in a second.

Shape letters: N samples, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import field
from attrs.validators import ge, le, optional
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import help
from mtl_core.seeds import derive, generator_for
from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks

TOY_TASKS = Tasks([Segmentation(name="segmentation", channels=4), Depth(name="depth"), Normals(name="normals")])


class Shapes:
    """Smooth random images whose labels are functions of the image, so that there is something to learn."""

    labelled: Tensor | None = None
    names: Sequence[str] | None = None

    def __init__(self, samples: int, size: tuple[int, int], split: str) -> None:
        self.tasks = TOY_TASKS
        self.samples = samples
        self.size = size
        self.split = split

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Sample:
        coarse = torch.rand(1, 3, 4, 4, generator=generator_for(0, self.split, index))
        image = F.interpolate(coarse, self.size, mode="bilinear")[0]
        normal = F.normalize(torch.stack((image[0] - 0.5, image[1] - 0.5, -image[2] - 0.5)), dim=0)
        classes = (image[0] > 0.5).long() + 2 * (image[1] > 0.5).long()
        return Sample(image, {"segmentation": classes, "depth": 1 + image[2:3], "normals": normal})


@plugin
class ToyData:
    """Random images with three labels that follow from them."""

    samples: int = field(default=8, validator=ge(1), metadata=help("training and test samples, each"))
    size: tuple[int, int] = field(default=(32, 32), metadata=help("(H, W) in pixels"))
    val: int = field(default=0, validator=ge(0), metadata=help("samples of a split for validation; 0: there is none"))

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return ("train", "val", "test") if self.val else ("train", "test")

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(self.val if split == "val" and self.val else self.samples, self.size, split)


@plugin
class ToyLabels:
    """One label per sample, task after task, or each at random; the tasks named in ``never`` have none."""

    never: tuple[str, ...] = field(default=(), metadata=help("tasks without any label"))
    share: float | None = field(
        default=None,
        validator=optional([ge(0.0), le(1.0)]),
        metadata=help("of labels that are kept, at random: 0 to K each"),
    )

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        kept = torch.tensor([name not in self.never for name in tasks.names])
        if self.share is not None:
            return (torch.rand(size, len(tasks), generator=generator) < self.share) & kept
        return torch.eye(len(tasks), dtype=torch.bool).repeat(size, 1)[:size] & kept


@plugin
class ToyNetwork:
    """Two convolutions with group norm as encoder, one per head: the same on any number of ranks."""

    channels: int = field(default=8, validator=ge(2), metadata=help("channels of z"))

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        c = self.channels
        first = nn.Conv2d(in_channels, c, 3, padding=1)
        second = nn.Conv2d(c, c, 3, padding=1)
        return ToyBackbone(c, first, nn.GroupNorm(2, c), nn.ReLU(), second, nn.Tanh())

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Conv2d(self.channels, task.channels, 3, padding=1) for task in tasks})


class ToyBackbone(nn.Sequential):
    width = 4
    norm = "group"

    def __init__(self, channels: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.channels = channels


@plugin
class ToyNormedNetwork:
    """One convolution with batch norm as encoder, one per head."""

    @hookimpl
    def build_backbone(self) -> nn.Module:
        return ToyBackbone(4, nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Conv2d(4, task.channels, 1) for task in tasks})


@plugin
class ToyShaper(nn.Module):
    """Weights of 1/2, and a count of the steps that were kept."""

    @hookimpl
    def setup(self) -> None:
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        return Shaped(torch.full_like(gradients.norms, 0.5), {"count": self.count + 1})


@plugin
class ToyWatcher(nn.Module):
    """Remembers the norms of the branches, and counts the steps that were kept."""

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.norms: Tensor
        self.count: Tensor
        self.register_buffer("norms", torch.zeros(len(tasks)))
        self.register_buffer("count", torch.zeros(()))

    @hookimpl
    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Tensor]:
        return {"norms": gradients.norms.to(self.norms), "count": self.count + 1}


class StubBackbone(nn.Module):
    """Stands for a run's backbone where only its width and norm matter, as in the hook ``setup``.

    z (N, width, H, W) repeats an image's channels: there is nothing to learn in it.
    """

    def __init__(self, width: int = 4, norm: str = "batch") -> None:
        super().__init__()
        self.channels = width
        self.width = width
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        return images.repeat(1, -(-self.width // images.shape[1]), 1, 1)[:, : self.width]


def stub_heads(backbone: StubBackbone, tasks: Tasks) -> nn.ModuleDict:
    """A head per task for a :class:`StubBackbone`: a linear map of channels, of their means for a task per image.

    A task's weights follow from its name, whatever the order of the tasks.
    """
    return nn.ModuleDict({task.name: _StubHead(backbone.width, task) for task in tasks})


class _StubHead(nn.Module):
    def __init__(self, width: int, task: Task) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(0, "stub head", task.name))
            self.linear = nn.Conv2d(width, task.channels, 1)
        self.dense = task.dense

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.linear(z if self.dense else z.mean((-2, -1), keepdim=True))
        return found if self.dense else found.flatten(1)

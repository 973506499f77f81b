"""One split of PASCAL-Context.

Shape letters: N images, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from mtl_core import DataError, Sample, Tasks
from mtl_data import read_rgb, resize_nearest
from mtl_pascal_context import labels
from mtl_pascal_context.boundaries import benchmark_edges, training_edges
from mtl_pascal_context.labels import Array
from mtl_pascal_context.placing import Placement, Resize, Size, place
from mtl_pascal_context.present import present_labels
from mtl_pascal_context.tree import Files, find_files


@attrs.frozen(kw_only=True)
class Form:
    """What a sample is made of its files by.

    :param size: (height, width) of every image
    :param resize: how it comes to that size
    :param axes: for our x, y and z the published component of a normal
    :param benchmark: edges as SEISM has them, and not as networks learn them
    """

    size: Size
    resize: Resize
    axes: tuple[str, ...]
    benchmark: bool


class PascalContextDataset:
    """N images with what the archive has of the tasks' labels.

    :param root: the tree, or the folder that the archive was unpacked in
    :param split: ``"train"`` or ``"test"``
    :raises DataError: a folder, list or file is missing
    """

    def __init__(self, root: Path, split: str, tasks: Tasks, form: Form) -> None:
        self.tasks = tasks
        self.form = form
        self.files = find_files(root, split, tasks.names)
        self.names: Sequence[str] | None = [files.name for files in self.files]
        self.labelled: Tensor | None = present_labels(self.files, tasks)

    @property
    def paths(self) -> list[Path]:
        """Everything that samples are read from."""
        return [path for files in self.files for path in files.paths]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """:raises DataError: a file that cannot be read, or is not of the expected form"""
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read, and the map of labels where one of them is made of it."""
        if not 0 <= index < len(self):
            raise IndexError(f"pascal-context: there is no image {index} of {len(self)}")
        files = self.files[index]
        image = read_rgb(files.image)
        reader = _SampleReader(files, self.form, (int(image.shape[-2]), int(image.shape[-1])))
        targets = {name: getattr(reader, name)() for name in self.tasks.names if name in tasks}
        return Sample(reader.placement.image(image), targets)


class _SampleReader:
    """The labels of one image, each in the output's size; the label map is read once for all that need it.

    :param own: the image's own size
    """

    def __init__(self, files: Files, form: Form, own: Size) -> None:
        self.files = files
        self.form = form
        self.own = own
        self.placement: Placement = place(own, form.size, form.resize)
        self._label_map: Array | None = None

    def segmentation(self) -> Tensor:
        if self.files.classes is None:
            return self.placement.classes(labels.classes_of(self.label_map()))
        return self.placement.classes(self._fitting(labels.read_classes(self.files.classes), self.files.classes))

    def parts(self) -> Tensor:
        assert self.files.parts is not None
        found = labels.read_parts(self.files.parts)
        if found is None:
            return torch.full(self.form.size, -1)
        return self.placement.classes(self._fitting(found, self.files.parts))

    def normals(self) -> Tensor:
        assert self.files.normals is not None
        found = labels.read_normals(self.files.normals, self.label_map(), self.form.axes)
        return self.placement.normals(self._fitting(found, self.files.normals))

    def saliency(self) -> Tensor:
        assert self.files.saliency is not None
        return self.placement.classes(self._fitting(labels.read_saliency(self.files.saliency), self.files.saliency))

    def edges(self) -> Tensor:
        """Edges of the label map at its own size, resized; of the resized map where that is the better order.

        A line of one pixel that is shrunk by taking nearest pixels loses some of them, so that the map is shrunk first.
        So is it for the benchmark, whose lines must be one pixel wide at the size that is evaluated.
        """
        found = self.label_map()
        inner = self.placement.inner
        if self.form.benchmark or inner[0] < found.shape[0] or inner[1] < found.shape[1]:
            found = resize_nearest(torch.from_numpy(found), inner).numpy()
        lines = benchmark_edges(found) if self.form.benchmark else training_edges(found)
        return self.placement.edges(torch.from_numpy(lines).float()[None])

    def label_map(self) -> Array:
        if self._label_map is None:
            assert self.files.label_map is not None
            found = labels.read_label_map(self.files.label_map)
            self._fitting(torch.from_numpy(found), self.files.label_map)
            self._label_map = found
        return self._label_map

    def _fitting(self, label: Tensor, path: Path) -> Tensor:
        """A label (…, H, W) of its image's size, or of its proportions, which the published code resizes too."""
        height, width = label.shape[-2:]
        if abs(height * self.own[1] - width * self.own[0]) > 0.02 * height * self.own[1]:
            raise DataError(
                f"{path}: {height} × {width} pixels, but its image {self.files.image.name} is {self.own[0]} ×"
                f" {self.own[1]}; expected one size, or the same proportions; unpack the archive again"
            )
        return label

"""Label scenarios as plugins.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from attrs import field
from attrs.validators import ge, in_, le
from torch import Tensor

from mtl_core import MtlError, Tasks, help, hookimpl, plugin
from mtl_labels import draws
from mtl_labels.split_file import distinct, read_split

_Rest = Literal["full", "onelabel", "randomlabels", "halflabels", "split-file"]
_REST = get_args(_Rest)

_DRAWS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "full": lambda size, tasks, generator: draws.full(size, tasks),
    "onelabel": draws.one_label,
    "randomlabels": draws.random_labels,
    "halflabels": draws.half_labels,
}


def _drawn(scenario: str, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
    if scenario in ("randomlabels", "halflabels") and len(tasks) < 2:
        raise MtlError(
            f"{scenario}: leaves out some of each sample's labels, and the data set has one task ({tasks[0].name});"
            " use full or unlabelled"
        )
    return _DRAWS[scenario](size, len(tasks), generator)


@plugin
class Full:
    """Every sample carries every label that the data set has."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return _drawn("full", size, tasks, generator)


@plugin
class OneLabel:
    """Every sample carries exactly one label; each task N/K of them (Li et al., CVPR 2022; Nishi et al., CVPR 2024)."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return _drawn("onelabel", size, tasks, generator)


@plugin
class RandomLabels:
    """Every sample carries 1 to K − 1 labels, each number equally often (Li et al., CVPR 2022)."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return _drawn("randomlabels", size, tasks, generator)


@plugin
class HalfLabels:
    """Every sample carries half of the labels: 3 or 4 of 7 (Nishi et al., CVPR 2024, Sec. 4.1)."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return _drawn("halflabels", size, tasks, generator)


def _known_rest(instance: Unlabelled, attribute: Any, value: str) -> None:
    in_(_REST)(instance, attribute, value)
    if (value == "split-file") != bool(instance.path):
        found = f"path is {instance.path!r}" if instance.path else "there is no path"
        raise ValueError(f'rest is "{value}" and {found}; a path goes with rest = "split-file", and with nothing else')


@plugin
class Unlabelled:
    """A share of the samples carries no label at all, the rest another scenario's (Nishi et al., CVPR 2024, 4.4)."""

    share: float = field(default=0.5, validator=[ge(0.0), le(1.0)], metadata=help("share without any label, 0 to 1"))
    rest: _Rest = field(default="onelabel", validator=_known_rest, metadata=help("scenario of the other samples"))
    path: str = field(default="", metadata=help('the file of rest = "split-file"'))
    columns: tuple[str, ...] = field(
        default=(), validator=distinct, metadata=help("tasks of that file's columns, as in split-file")
    )

    @hookimpl
    def make_label_mask(
        self, size: int, tasks: Tasks, generator: torch.Generator, names: Sequence[str] | None
    ) -> Tensor:
        labelled = torch.randperm(size, generator=generator)[round(size * self.share) :]
        mask = torch.zeros(size, len(tasks), dtype=torch.bool)
        if self.rest == "split-file":
            mask[labelled] = read_split(self.path, self.columns, size, tasks, names)[labelled]
        else:
            mask[labelled] = _drawn(self.rest, len(labelled), tasks, generator)
        return mask

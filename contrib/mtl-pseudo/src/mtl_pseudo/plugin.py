"""The plugin: a data set's plugin, and the models that label its images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field
from attrs.validators import ge, in_, min_len

from mtl_core import About, Experiment, MtlError, help, hookimpl, open_hooks, parse_experiment, plugin
from mtl_pseudo.specs import spec_of

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset
    from mtl_pseudo.dataset import Labelling, WithPseudoTasks


def _usable(instance: object, attribute: Any, value: Mapping[str, Any]) -> None:
    """Every mistake in the tables of the models."""
    if not value:
        raise ValueError("expected a table for each pseudo-task, such as [plugins.pseudo.sources.coco]")
    problems = []
    for name, table in value.items():
        try:
            spec_of(name, table)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))


@plugin
class Pseudo:
    """Auxiliary tasks whose labels are the predictions of pretrained models, added to a data set.

    "Unprejudiced Training Auxiliary Tasks Makes Primary Better" (IAL), Sec. IV-D, after Ghiasi et al.,
    "Multi-Task Self-Training", ICCV 2021: masks where a class is sure, distributions over classes, and token labels
    (Jiang et al., "All Tokens Matter", NeurIPS 2021). Labels are made once, and found again by later runs.
    """

    about = About(
        formula=(
            "masks: ỹ = argmax p(x) where max p(x) ≥ score, else ignored; soft: ỹ = p(x), L = −Σ_c ỹ_c log p̂_c; "
            "tokens: the k most likely classes at each place of the last features, L as soft"
        ),
        source=(
            "Unprejudiced Training Auxiliary Tasks Makes Primary Better, Sec. IV-D; Ghiasi et al., ICCV 2021; "
            "Jiang et al., All Tokens Matter, NeurIPS 2021"
        ),
        cost="each model over the training images once; in a step a head per task",
        departs=(
            "which models the paper took is not published; token labels are a dense task of their own, not tokens of a "
            "transformer"
        ),
    )

    of: str = field(validator=min_len(1), metadata=help("the data set's plugin"))
    data: dict[str, Any] = field(factory=dict, metadata=help("options of the data set's plugin"))
    sources: dict[str, dict[str, Any]] = field(
        validator=_usable,
        metadata=help(
            "task → model (torchvision:NAME, timm:NAME, smp:ARCHITECTURE:ENCODER, run:FOLDER), weights, labels (masks,"
            " soft, tokens), score (0.5), classes, size, mean, std, top (5), tasks, checkpoint"
        ),
    )
    folder: str | None = field(default=None, metadata=help("where labels are kept; none: in the cache folder"))
    batch_size: int = field(default=8, validator=ge(1), metadata=help("images that a model labels at once"))
    device: Literal["auto", "cuda", "mps", "cpu"] = field(
        default="auto", validator=in_(("auto", "cuda", "mps", "cpu")), metadata=help("where the models run")
    )

    @hookimpl
    def before_run(self, experiment: Experiment, folder: Path) -> None:
        self.open("train").prepare()

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return self.open(split)

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return open_hooks(self._data_experiment(), ("build_dataset",)).splits

    def open(self, split: str) -> WithPseudoTasks:
        from mtl_pseudo.dataset import WithPseudoTasks

        hooks = open_hooks(self._data_experiment(), ("build_dataset",))
        return WithPseudoTasks(hooks.build_dataset(split), self.labelling(), split == "train")

    def _data_experiment(self) -> Experiment:
        """An experiment with the data set's plugin alone, so that its options are read and checked as always.

        :raises MtlError: there is no such plugin, or its options are wrong
        """
        text = f'name = "data"\n[plugins.{json.dumps(self.of)}]\n'
        text += "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in self.data.items())
        return parse_experiment(text, "plugins.pseudo.data")

    def labelling(self) -> Labelling:
        from mtl_data import cache_folder
        from mtl_pseudo.dataset import Labelling

        try:
            root = cache_folder() / "pseudo" if self.folder is None else Path(self.folder).expanduser()
        except OSError as error:
            raise MtlError(f"plugins.pseudo.folder: there is no cache folder ({error}); set it") from error
        return Labelling(root, tuple(spec_of(*item) for item in self.sources.items()), self.batch_size, self.device)


def _toml(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps("none" if value is None else value)

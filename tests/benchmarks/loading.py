"""`make bench BENCH=loading`: how fast readers give samples, and how long training waits for them, as JSON.

The data are made up: ``--samples`` images of ``--size`` with classes, depth and normals (or what the form has), in each
form as its publishers ship it. Beside every reader stands a plain loop over the arrays of MTAN: ``np.load`` for each
file, as the codes of MTAN and MTPSL read them (float32; what is published may be wider). ``decoding`` is without the
cache; ``reading`` from it, one sample after another; ``N workers`` through a DataLoader in batches, 0 in this process.
The two alternate (a, b, b, a, …); a ratio is the median of the pairs' ratios, with its quartiles. The share of waiting
is that of one training epoch spent in the loader's ``next``, its samples cached. ``--data 'NAME OPTION=VALUE …'``
measures a data set's plugin on real files instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from mtl_backbones import SegNet
from mtl_core import Experiment, MultiTaskDataset, RunFolder, make_fabric, open_hooks, parse_experiment
from mtl_core.testing import Trainer, collate, prepare
from mtl_labels import Full
from mtl_nyuv2 import NYUv2
from mtl_scenes import Scenes

BATCH = 8
EPOCH = 128
Size = tuple[int, int]
Sample = dict[str, Any]
Writer = Callable[[Path, int, Size], None]


def draw(index: int, size: Size) -> Sample:
    """Smooth images and labels with some detail, so that files compress as real ones do."""
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8)).resize(size[::-1])
    image = np.clip(np.asarray(coarse).astype(int) + rng.integers(-8, 9, (*size, 3)), 0, 255).astype(np.uint8)
    blocks = rng.integers(14, size=(9, 12), dtype=np.uint8)
    label = np.asarray(Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST))
    depth = (700 + 30 * image[..., 0].astype(int) + np.arange(size[1])).astype(np.uint16)
    normal = image.astype(np.float32) / 255 - (0.5, 0.5, 1.5)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return {"image": image, "label": label, "depth": depth, "normal": normal.astype(np.float32)}


def arrays(root: Path, count: int, size: Size) -> None:
    """MTAN's tree."""
    for index in range(count):
        raw = draw(index, size)
        between = np.random.default_rng(index).random((*size, 1), np.float32)  # resized values are no whole numbers
        values = {
            "image": (raw["image"].astype(np.float32) + between) / 256,
            "label": raw["label"].astype(np.float32) - 1,
            "depth": (raw["depth"].astype(np.float32)[..., None] + between) / 1000,
            "normal": raw["normal"],
        }
        for kind, array in values.items():
            (root / "train" / kind).mkdir(parents=True, exist_ok=True)
            np.save(root / "train" / kind / f"{index}.npy", array)


def pictures(root: Path, count: int, size: Size) -> None:
    for index in range(count):
        raw = draw(index, size)
        raw["normal"] = np.round(raw["normal"] * 127 + 128).astype(np.uint8)
        for kind, array in raw.items():
            (root / "train" / kind).mkdir(parents=True, exist_ok=True)
            ending = "jpg" if kind == "image" else "png"
            Image.fromarray(array).save(root / "train" / kind / f"{index:04d}.{ending}")


def nyud_mt(root: Path, count: int, size: Size) -> None:
    for index in range(count):
        raw = draw(index, size)
        name = f"{index:04d}"
        for kind in ("images", "segmentation", "depth", "normals", "gt_sets"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(raw["image"]).save(root / "images" / f"{name}.jpg")
        Image.fromarray(raw["label"]).save(root / "segmentation" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", raw["depth"].astype(np.float32) / 1000)
        np.save(root / "normals" / f"{name}.npy", raw["normal"])
    (root / "gt_sets" / "train.txt").write_text("\n".join(f"{index:04d}" for index in range(count)))


def frames(root: Path, count: int, size: Size) -> None:
    """FastDepth's, which have depth alone, at the full 480 × 640."""
    for index in range(count):
        raw = draw(index, (480, 640))
        folder = root / "train" / f"scene_{index // 16:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"{index:05d}.h5", "w") as file:
            file.create_dataset("rgb", data=raw["image"].transpose(2, 0, 1), compression="gzip")
            file.create_dataset("depth", data=raw["depth"].astype(np.float32) / 1000, compression="gzip")


def official(root: Path, count: int, size: Size) -> None:
    """The .mat file at the full 480 × 640; normals are derived."""
    from scipy.io import savemat

    root.mkdir(parents=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        shapes = {"images": ((count, 3, 640, 480), "u1"), "depths": ((count, 640, 480), "f4"),
                  "labels": ((count, 640, 480), "u2")}  # fmt: skip
        made = {
            key: file.create_dataset(key, shape, kind, chunks=(1, *shape[1:]), compression="gzip")
            for key, (shape, kind) in shapes.items()
        }
        for index in range(count):
            raw = draw(index, (480, 640))
            made["images"][index] = raw["image"].transpose(2, 1, 0)
            made["depths"][index] = raw["depth"].T.astype(np.float32) / 1000
            made["labels"][index] = raw["label"].T
    savemat(root / "splits.mat", {"trainNdxs": np.arange(1, count + 1)[:, None], "testNdxs": np.array([[1]])})


FORMS: dict[str, tuple[Writer, Mapping[str, Any]]] = {
    "nyuv2 arrays": (arrays, {}),
    "nyuv2 pictures": (pictures, {}),
    "nyuv2 NYUD_MT": (nyud_mt, {"classes": 40}),
    "nyuv2 official": (official, {}),
    "nyuv2 FastDepth": (frames, {"tasks": ("depth",)}),
}


class Plain(Dataset[tuple[Tensor, ...]]):
    """MTAN's arrays, each sample from its four files."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root / "train"
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, depth, normal = (
            torch.from_numpy(np.moveaxis(np.load(self.root / kind / f"{index}.npy"), -1, 0)).float()
            for kind in ("image", "depth", "normal")
        )
        return image, torch.from_numpy(np.load(self.root / "label" / f"{index}.npy")).float(), depth, normal


class Rows(Dataset[Any]):
    """A data set's samples as core's loader stacks them."""

    def __init__(self, dataset: MultiTaskDataset) -> None:
        self.dataset = dataset
        self.all = torch.ones(len(dataset.tasks), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index], self.all, index


def loader(data: Dataset[Any], workers: int, function: Any = None) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    order = RandomSampler(data, replacement=True, num_samples=EPOCH, generator=generator)  # type: ignore[arg-type]
    return DataLoader(
        data, BATCH, sampler=order, num_workers=workers, collate_fn=function, persistent_workers=workers > 0
    )


def seconds(batches: Iterable[Any]) -> float:
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


@attrs.frozen
class Reading:
    """As many samples as an epoch of a loader has, one after another, and none is kept."""

    data: Any

    def __iter__(self) -> Iterator[None]:
        for number in range(EPOCH):
            self.data[number % len(self.data)]
            yield


def beside_plain(ours: Iterable[Any], theirs: Iterable[Any], pairs: int) -> dict[str, Any]:
    """Samples/s of the one, and the ratio to the other's."""
    for warm_up in (ours, theirs, ours, theirs):
        seconds(warm_up)
    ratios = []
    rates = []
    for pair in range(pairs):
        first, second = (ours, theirs) if pair % 2 == 0 else (theirs, ours)
        one = seconds(first)
        two = seconds(second)
        mine, other = (one, two) if pair % 2 == 0 else (two, one)
        ratios.append(other / mine)
        rates.append(EPOCH / mine)
    q1, median, q3 = statistics.quantiles(ratios, n=4)
    return {
        "samples/s": round(statistics.median(rates)),
        "samples/s / plain np.load": round(median, 2),
        "quartiles": [round(q1, 2), round(q3, 2)],
    }


def measured(cached: MultiTaskDataset, fresh: MultiTaskDataset, plain: Plain, pairs: int) -> dict[str, Any]:
    few = range(0, len(fresh), max(1, len(fresh) // 16))
    started = time.perf_counter()
    for index in few:
        fresh[index]
    found: dict[str, Any] = {"decoding samples/s": round(len(few) / (time.perf_counter() - started), 1)}
    found["reading"] = beside_plain(Reading(cached), Reading(plain), pairs)
    for workers in (0, 1, 2):
        ours = loader(Rows(cached), workers, collate)
        theirs = loader(plain, workers)
        found[f"{workers} workers"] = beside_plain(ours, theirs, pairs)
    return found


class Timed:
    """A loader that notes how long its user waits."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        source = iter(self.batches)
        while True:
            started = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - started
            yield batch


def waiting(plugin: object, workers: int, width: int, device: str) -> float:
    """The share of a training epoch that waits for data, after one that fills the cache."""
    plugins = [plugin, Full(), SegNet(width=width)]
    made = Experiment(
        name="bench", plugins=plugins, batch_size=BATCH, validation=0.0, workers=workers, device=device, epochs=2
    )
    fabric = make_fabric(made)
    fabric.launch()
    trainer = Trainer(prepare(made), fabric, RunFolder(Path(tempfile.mkdtemp())))
    trainer.loader = timed = Timed(trainer.loader)  # type: ignore[assignment]
    for number in range(2):
        timed.waited = 0.0
        started = time.perf_counter()
        trainer.epoch = number
        trainer.batch = 0
        trainer.train_epoch(lambda epoch, batch, batches: None)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        total = time.perf_counter() - started
    return round(timed.waited / total, 4)


def given(text: str) -> tuple[MultiTaskDataset, MultiTaskDataset]:
    """A data set's plugin with options, cached and not: ``NAME OPTION=VALUE …``."""
    name, *options = text.split()
    opened = []
    for cache in ("true", "false"):
        overrides = [f"plugins.{name}.{option}" for option in (*options, f"cache={cache}")]
        made = parse_experiment(f'name = "bench"\n[plugins."{name}"]\n', "--data", overrides)
        opened.append(open_hooks(made, ("build_dataset",)).build_dataset("train"))
    return opened[0], opened[1]


def readers(root: Path, count: int, size: Size, pairs: int) -> dict[str, Any]:
    plain = Plain(root / "nyuv2 arrays", count)
    found = dict[str, Any]()
    for name, (write, options) in FORMS.items():
        write(root / name, count, size)
        both = [
            NYUv2(root=str(root / name), size=size, cache=cache, **options).build_dataset("train")
            for cache in (True, False)
        ]
        found[name] = measured(both[0], both[1], plain, pairs)
    both = [Scenes(size=size, train=count, test=1, cache=cache).build_dataset("train") for cache in (True, False)]
    return found | {"scenes": measured(both[0], both[1], plain, pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=(288, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--width", type=int, default=16, help="of the SegNet that is trained")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", action="append", metavar="'NAME OPTION=VALUE …'", help="a plugin on real files")
    options = parser.parse_args()
    size: Size = (options.size[0], options.size[1])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["MTL_CACHE"] = str(root / "cache")
        found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "size": size,
                                 "batch": BATCH, "samples": options.samples, "cores": os.cpu_count()}  # fmt: skip
        if options.data:
            arrays(root / "nyuv2 arrays", options.samples, size)
            plain = Plain(root / "nyuv2 arrays", options.samples)
            found |= {text: measured(*given(text), plain, options.pairs) for text in options.data}
        else:
            found |= readers(root, options.samples, size, options.pairs)
            plugin = NYUv2(root=str(root / "nyuv2 pictures"), size=size)
            shares = {f"{w} workers": waiting(plugin, w, options.width, options.device) for w in (0, 1, 2)}
            found[f"share of an epoch that waits, SegNet of width {options.width}"] = shares
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

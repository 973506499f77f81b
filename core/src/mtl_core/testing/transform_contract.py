"""Contract of what changes the geometry of samples.

Shape letters: H and W image size.
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from mtl_core.data.sample import Sample
from mtl_core.seeds import generator_for
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import ODD, REPEATS, PluginContract, Untouched, attempt, same, under
from mtl_core.testing.factories import make_sample

DRAWS = 8
"""How many seeds a check tries."""


class TransformContract(PluginContract):
    """``transform_sample``: image and labels of one sample change together."""

    hook = "transform_sample"
    random: ClassVar[bool] = True
    """Whether different generators give different samples."""
    agreement: ClassVar[float] = 0.95
    """Share of pixels at which a label must still agree with the image that it was made from."""
    kept: ClassVar[float] = 0.2
    """Share of pixels that must still have a label, on average."""

    def transform(self, plugin: Any, sample: Sample, seed: int = 0, tasks: Tasks | None = None) -> Sample:
        return self.prepare(plugin, tasks).transform_sample(sample, generator_for(seed, "contract"))

    def sample(self, seed: int = 0) -> Sample:
        return make_sample(self.tasks, self.image_size, seed)

    def test_keeps_shapes_and_types(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            before = tensors(self.sample(seed))
            after = tensors(self.transform(plugin, self.sample(seed), seed))
            assert described(after) == described(before), f"{described(before)} became {described(after)}"

    def test_takes_images_in_bytes(self, plugin: Any) -> None:
        sample = self.sample()
        sample.image = (sample.image * 255).to(torch.uint8)
        found = self.transform(plugin, sample).image
        assert found.dtype == torch.uint8, f"an image in bytes became {found.dtype}"

    def test_image_stays_within_its_range(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            image = self.transform(plugin, self.sample(seed), seed).image
            assert ((image >= 0) & (image <= 1)).all(), f"values {image.min()} to {image.max()}, expected 0 to 1"

    def test_draws_from_its_generator_only(self, plugin: Any) -> None:
        first, *others = (under(s, lambda: tensors(self.transform(plugin, self.sample(), 3))) for s in range(DRAWS))
        for other in others:
            assert all(same(first[n], other[n]) for n in first), "calls with generators of one seed differ"
        if self.random:
            images = [self.transform(plugin, self.sample(), seed).image for seed in range(DRAWS)]
            assert any(not same(images[0], image) for image in images[1:]), "the generator's seed changes nothing"

    def test_leaves_its_input_as_it_was(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            sample = self.sample(seed)
            kept = Untouched(tensors(sample), sample=sample, targets=sample.targets)
            self.transform(plugin, sample, seed)
            kept.check()

    def test_withheld_labels_stay_withheld(self, plugin: Any) -> None:
        tasks = self.tasks
        sample = self.sample()
        sample.targets = {name: tasks[name].blank(target) for name, target in sample.targets.items()}
        for seed in range(DRAWS):
            for name, target in self.transform(plugin, sample, seed).targets.items():
                assert not tasks[name].valid(target[None]).any(), f"{name}: a blank label has valid pixels now"

    def test_labels_move_with_the_image(self, plugin: Any) -> None:
        """Classes are painted into the image as two greys; afterwards they must still lie on them."""
        tasks = Tasks([Segmentation(name="segmentation", channels=2)])
        hooks = self.prepare(plugin, tasks)
        classes = blob(self.image_size)
        image = (0.25 + 0.5 * classes).expand(3, -1, -1).contiguous()
        valid = []
        for seed in range(DRAWS):
            after = hooks.transform_sample(
                Sample(image.clone(), {"segmentation": classes.clone()}), generator_for(seed, "contract")
            )
            label = after.targets["segmentation"]
            agrees = (after.image.mean(0) > 0.5).long() == label
            share = agrees[label >= 0].float().mean().item() if (label >= 0).any() else 1.0
            assert share >= self.agreement, f"seed {seed}: classes agree with the image at {share:.0%} of the pixels"
            valid.append(float((label >= 0).float().mean()))
        mean = sum(valid) / len(valid)
        assert mean > self.kept, f"only {mean:.0%} of the pixels still have a label"

    def test_depth_and_normals_move_and_turn(self, plugin: Any) -> None:
        """The image's red and green say where a pixel comes from, so that the labels' place and turn are known."""
        tasks = Tasks([Depth(name="depth"), Normals(name="normals")])
        for seed in range(DRAWS):
            after = self.transform(plugin, coded_sample(self.image_size), seed, tasks)
            moved = Moved.of(after, self.image_size)
            if moved is not None:
                share = moved.agreement(after.targets["depth"][0], moved.depth())
                assert share >= self.agreement, (
                    f"seed {seed}: depth agrees with the image at {share:.0%} of the pixels; move it with the image,"
                    " and divide it by the enlargement (Task.zoom)"
                )
                share = moved.agreement(after.targets["normals"], moved.normals())
                assert share >= self.agreement, (
                    f"seed {seed}: normals agree with the image at {share:.0%} of the pixels; move them with the image,"
                    " and mirror and turn the vectors (Task.flip, Task.rotate)"
                )

    def test_bytes_move_as_numbers_do(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            numbers = self.sample()
            coded = self.sample()
            coded.image = (coded.image * 255).round().to(torch.uint8)
            numbers.image = coded.image / 255
            one, other = (self.transform(plugin, sample, seed).image for sample in (numbers, coded))
            off = (one - other / 255).abs().flatten()
            share = float((off <= 0.02).float().mean())
            assert share > 0.95, f"seed {seed}: an image in bytes became another one than the same image in 0..1"

    def test_remembers_nothing(self, plugin: Any) -> None:
        """A worker sees some samples only: what happens to one depends on its generator and nothing else."""
        hooks = self.prepare(plugin)
        first = tensors(hooks.transform_sample(self.sample(), generator_for(3, "contract")))
        for k in range(2, REPEATS):
            found = tensors(hooks.transform_sample(self.sample(), generator_for(3, "contract")))
            differ = [name for name in first if not same(first[name], found[name])]
            assert not differ, f"call {k} with a generator of the same seed differs: {differ}"
            hooks.transform_sample(self.sample(k), generator_for(10 + k, "contract"))

    def test_works_for_any_number_of_tasks(self, plugin: Any) -> None:
        for tasks in self.other_tasks():
            what = f"K = {len(tasks)} ({', '.join(tasks.names)})"
            sample = make_sample(tasks, self.image_size)
            before = described(tensors(sample))
            after = attempt(what, partial(self.transform, plugin, sample, 0, tasks))
            found = before if after is None else described(tensors(after))
            assert found == before, f"{what}: {before} became {found}"

    def test_takes_odd_sizes(self, plugin: Any) -> None:
        what = f"images of {ODD[0]} × {ODD[1]} pixels"
        for seed in range(DRAWS):
            sample = make_sample(self.tasks, ODD, seed)
            before = described(tensors(sample))
            after = attempt(what, partial(self.transform, plugin, sample, seed))
            found = before if after is None else described(tensors(after))
            assert found == before, f"{what}: {before} became {found}"

    def test_labels_per_image_stay(self, plugin: Any) -> None:
        tasks = Tasks([*self.tasks.dense, Classification(name="scene", channels=4)])
        for seed in range(DRAWS):
            sample = make_sample(tasks, self.image_size, seed)
            before = sample.targets["scene"].clone()
            after = attempt("a task per image", partial(self.transform, plugin, sample, seed, tasks))
            assert after is None or same(after.targets["scene"], before), "a label of the whole image became another"

    def test_invents_no_class(self, plugin: Any) -> None:
        for task in self.tasks:
            if task.dense and task.label_dtype == torch.long:
                for seed in range(DRAWS):
                    sample = self.sample(seed)
                    target = sample.targets[task.name]
                    last = task.channels - 1
                    ends = torch.where(sample.image[0] > 0.5, last, 0)
                    sample.targets[task.name] = torch.where(target < 0, target, ends)
                    found = set(self.transform(plugin, sample, seed).targets[task.name].flatten().tolist())
                    assert found <= {-1, 0, last}, f"classes 0 and {last} became {sorted(found)}; resample by nearest"

    def test_labels_stay_as_their_tasks_define_them(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            for name, target in self.transform(plugin, self.sample(seed), seed).targets.items():
                problems = self.tasks[name].problems(target, self.image_size)
                assert not problems, f"{name}: {problems[0]}"

    def test_travels_to_a_worker(self, plugin: Any) -> None:
        copy = self.prepare(plugin).plugins["plugin"]
        assert not isinstance(copy, nn.Module), "an nn.Module is not sent to workers; it cannot learn anyway"
        there = pickle.loads(pickle.dumps(copy))
        found = there.transform_sample(self.sample(), generator_for(0, "contract")) or self.sample()
        here = self.transform(plugin, self.sample())
        assert same(found.image, here.image), "a pickled copy transforms differently"


LOW = 0.1
HIGH = 0.9
"""Values of the ramps in a coded image, at its left and right, or upper and lower, border."""


def coded_sample(size: tuple[int, int]) -> Sample:
    """Red says x, green says y; depth and the slant of the normals follow from x."""
    height, width = size
    x = torch.linspace(LOW, HIGH, width).expand(height, width)
    y = torch.linspace(LOW, HIGH, height)[:, None].expand(height, width)
    image = torch.stack((x, y, torch.full_like(x, 0.5)))
    return Sample(image, {"depth": depth_at(x)[None], "normals": normals_at(x, torch.eye(2))})


def depth_at(x: Tensor) -> Tensor:
    """Metres at the place that red stands for."""
    return 1 + 2 * x


def normals_at(x: Tensor, turn: Tensor) -> Tensor:
    """Normals (3, H, W) at the place that red stands for; ``turn`` (2, 2): what happened to directions in the image."""
    slant = 0.4 + 0.8 * x
    across = turn @ torch.tensor([0.8, 0.6])
    return torch.stack((across[0] * slant.sin(), across[1] * slant.sin(), slant.cos()))


@attrs.frozen(eq=False)
class Moved:
    """What a transform did to a coded image, read from its colours.

    :param x: red, (H, W)
    :param turn: (2, 2), from directions in the image as it was to directions now
    :param scale: enlargement
    """

    x: Tensor
    turn: Tensor
    scale: float

    @classmethod
    def of(cls, sample: Sample, size: tuple[int, int]) -> Moved | None:
        """None where the transform is no similarity, or shows next to nothing."""
        known = Depth(name="depth").valid(sample.targets["depth"][None])[0, 0]
        if known.float().mean() < 0.1:
            return None
        rows, columns = known.nonzero(as_tuple=True)
        # red and green are linear in the place, so that a plane through each gives the transform's derivative
        places = torch.stack((columns, rows, torch.ones_like(rows)), 1).float()
        plane = torch.linalg.lstsq(places, sample.image[:2][:, known].T).solution  # (3, 2): slopes by x, by y, offset
        step = torch.tensor([(HIGH - LOW) / (size[1] - 1), (HIGH - LOW) / (size[0] - 1)])
        jacobian = (plane[:2] / step).T  # of the place before, by the place now
        # |det| is the area of a pixel now, in pixels before
        size_of_pixel = float(jacobian.det().abs().sqrt())
        if size_of_pixel < 1e-3:
            return None
        # what is left without the zoom is a rotation or a mirroring, whose transpose is its inverse
        turn = (jacobian / size_of_pixel).T
        similar = torch.allclose(turn @ turn.T, torch.eye(2), atol=0.1)
        return cls(sample.image[0], turn, 1 / size_of_pixel) if similar else None

    def depth(self) -> Tensor:
        return depth_at(self.x)[None] / self.scale

    def normals(self) -> Tensor:
        return normals_at(self.x, self.turn)

    def agreement(self, found: Tensor, expected: Tensor) -> float:
        """Share of the valid pixels at which a label is what it has to be."""
        found = found if found.ndim == 3 else found[None]
        valid = found.isfinite().all(0) & (found != 0).any(0)
        if not valid.any():
            return 1.0
        # the colours are resampled, so that places, and what follows from them, are known to some hundredths
        off = (found - expected).norm(dim=0)
        return float((off < 0.08)[valid].float().mean())


def tensors(sample: Sample) -> dict[str, Tensor]:
    return {"image": sample.image, **sample.targets}


def described(parts: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{part.dtype} {tuple(part.shape)}" for name, part in parts.items()}


def blob(size: tuple[int, int]) -> Tensor:
    """Two classes (H, W): a large rectangle off the middle, which mirroring, turning or zooming moves visibly."""
    classes = torch.zeros(size, dtype=torch.long)
    classes[size[0] // 8 : 3 * size[0] // 4, size[1] // 8 : 5 * size[1] // 8] = 1
    return classes

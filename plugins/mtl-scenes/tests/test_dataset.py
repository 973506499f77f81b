"""What a loader relies on: the same sample everywhere, sound labels, clear refusals."""

import hashlib
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from mtl_core import DataError, MultiTaskDataset
from mtl_scenes import Scenes, dataset
from mtl_scenes.furniture import CLASSES
from mtl_scenes.labels import LABELS
from mtl_scenes.levels import LEVELS
from mtl_scenes.scene import make_scene

SMALL = (24, 32)
ALL = tuple(LABELS)
every_level = pytest.mark.parametrize("level", LEVELS)


def scenes(split="train", **options):
    return Scenes(**{"size": SMALL, "train": 6, "test": 4, **options}).build_dataset(split)


def digest(data):
    found = hashlib.sha256()
    for index in range(len(data)):
        sample = data[index]
        for tensor in (sample.image, *sample.targets.values()):
            found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def equal(a, b):
    return torch.equal(a.image, b.image) and all(torch.equal(a.targets[name], b.targets[name]) for name in a.targets)


def test_defaults():
    made = Scenes()
    train = made.build_dataset("train")
    test = made.build_dataset("test")
    assert (len(train), len(test)) == (256, 64)
    assert train.tasks.names == ("segmentation", "depth", "normals")
    assert train[0].image.shape == (3, 64, 96)
    assert isinstance(train, MultiTaskDataset)
    assert train.labelled is None
    assert len(set(train.names) | set(test.names)) == 320


def test_validation_images_are_there_where_their_number_is_given():
    made = Scenes(size=SMALL, train=2, test=2, val=3)
    assert made.name_splits() == ("train", "val", "test")
    images = [made.build_dataset(split)[0].image for split in made.name_splits()]
    assert not any(torch.equal(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert len(made.build_dataset("val")) == 3
    assert Scenes().name_splits() == ("train", "test")
    with pytest.raises(DataError, match=r"there is no split 'val' .*; set plugins.scenes.val to the number"):
        Scenes().build_dataset("val")


@every_level
def test_two_instances_give_the_same_samples_in_any_order(level):
    first = scenes(tasks=ALL, difficulty=level)
    second = scenes(tasks=ALL, difficulty=level)
    backwards = [second[i] for i in reversed(range(6))][::-1]
    assert all(equal(first[i], backwards[i]) for i in range(6))


@every_level
def test_another_process_gives_the_same_samples(level):
    made = f"Scenes(size={SMALL}, train=6, tasks=tuple(LABELS), difficulty='{level}')"
    code = (
        "import hashlib; from mtl_scenes import Scenes; from mtl_scenes.labels import LABELS\n"
        f"d = {made}.build_dataset('train'); h = hashlib.sha256()\n"
        "[h.update(t.numpy().tobytes()) for i in range(6) for t in (d[i].image, *d[i].targets.values())]\n"
        "print(h.hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(scenes(tasks=ALL, difficulty=level))


def test_splits_seeds_and_positions_are_all_different_rooms():
    images = [scenes()[0], scenes()[1], scenes("test")[0], scenes("test")[1], scenes(seed=1)[0], scenes(seed=1)[1]]
    assert len({sample.image.numpy().tobytes() for sample in images}) == 6


def test_a_longer_data_set_begins_with_the_shorter_one():
    assert equal(scenes(train=3)[2], scenes(train=6)[2])


def test_tasks_and_their_order_leave_the_rooms_alone():
    chosen = scenes(tasks=("reshading", "depth"))
    assert chosen.tasks.names == ("reshading", "depth")
    assert list(chosen[0].targets) == ["reshading", "depth"]
    everything = scenes(tasks=ALL)[0]
    assert torch.equal(chosen[0].image, everything.image)
    assert all(torch.equal(chosen[0].targets[name], everything.targets[name]) for name in chosen.tasks.names)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (96, 128)])
def test_any_size(size):
    data = scenes(size=size, tasks=ALL)
    sample = data[0]
    assert sample.image.shape == (3, *size)
    assert sample.image.dtype == torch.uint8
    for task in data.tasks:
        shape = size if task.name == "segmentation" else (task.channels, *size)
        assert sample.targets[task.name].shape == shape
        assert sample.targets[task.name].dtype == (torch.int64 if task.name == "segmentation" else torch.float32)


def test_levels_are_different_rooms_with_the_same_tasks():
    levels = [scenes(tasks=ALL, difficulty=level) for level in LEVELS]
    assert len({digest(data) for data in levels}) == 3
    assert len({data.tasks.names for data in levels}) == 1
    assert digest(scenes()) == digest(scenes(difficulty="hard"))


def test_medium_rooms_are_the_hard_ones_in_other_colours():
    medium = scenes(difficulty="medium")
    hard = scenes(difficulty="hard")
    for index in range(6):
        first = medium[index]
        second = hard[index]
        assert (first.image != second.image).double().mean() > 0.9
        assert all(torch.equal(first.targets[name], second.targets[name]) for name in first.targets)


@every_level
def test_every_label_is_valid_everywhere_until_it_is_blanked(level):
    data = scenes(tasks=ALL, difficulty=level)
    for task in data.tasks:
        target = torch.stack([data[i].targets[task.name] for i in range(3)])
        assert task.valid(target).all()
        assert not task.valid(task.blank(target)).any()


@every_level
def test_ranges(level):
    data = scenes(tasks=ALL, train=24, difficulty=level)
    samples = [data[i] for i in range(24)]
    labels = {name: torch.stack([s.targets[name] for s in samples]) for name in ALL}
    assert 0.1 < labels["depth"].min() < 1.5
    assert 4 < labels["depth"].max() < 10
    assert torch.allclose(labels["normals"].norm(dim=1), torch.ones(()), atol=2e-3)
    for name in ALL[3:]:
        assert labels[name].min() >= 0
        assert labels[name].max() <= 1
        assert labels[name].std() > 0.02, name
    spread = torch.stack([s.image.float().std() for s in samples])
    assert spread.min() > 8


def class_counts(data):
    """(N, C) pixels of each class in each image."""
    maps = [data[i].targets["segmentation"].flatten() for i in range(len(data))]
    return torch.stack([torch.bincount(classes, minlength=len(CLASSES)) for classes in maps])


@every_level
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_class_is_in_both_splits_and_none_is_everything(split, level):
    share = class_counts(scenes(split, train=120, test=64, difficulty=level)).sum(0)
    share = dict(zip(CLASSES, (share / share.sum()).tolist(), strict=True))
    assert min(share.values()) > 0.002, share
    assert max(share.values()) == share["wall"] < 0.55, share


def test_easy_rooms_show_few_things_and_these_large():
    """Furniture that is seen at all covers more pixels than in hard rooms, and there are fewer solids."""
    counts = {level: class_counts(scenes(train=60, difficulty=level))[:, 6:] for level in ("easy", "hard")}
    seen = {level: found[found > 0].float().median() for level, found in counts.items()}
    assert seen["easy"] > 1.2 * seen["hard"], seen
    solids = {
        level: np.mean([len(make_scene(np.random.default_rng(i), level).solids.kind) for i in range(30)])
        for level in counts
    }
    assert solids["easy"] < 0.5 * solids["hard"], solids


def test_the_cache_changes_nothing():
    cached = scenes(tasks=ALL)
    plain = scenes(tasks=ALL, cache=False)
    first = cached[3]
    again = cached[3]
    assert equal(first, again)
    assert equal(first, plain[3])


def test_a_kept_sample_is_not_rendered_again(monkeypatch):
    cached = scenes()
    plain = scenes(cache=False)
    kept = cached[0]
    monkeypatch.setattr(dataset, "make_scene", lambda rng, level: pytest.fail("rendered again"))
    assert equal(cached[0], kept)
    with pytest.raises(pytest.fail.Exception, match="rendered again"):
        plain[0]


def test_changing_a_sample_leaves_the_cache_alone():
    data = scenes(tasks=ALL)
    clean = scenes(tasks=ALL)[0]
    sample = data[0]
    for tensor in (sample.image, *sample.targets.values()):
        tensor.zero_()
    assert equal(data[0], clean)


def test_what_does_not_fit_in_the_cache_is_rendered(monkeypatch):
    whole = scenes()
    monkeypatch.setattr(dataset, "_CACHE_BYTES", 2 * whole.record.itemsize + 1)
    limited = scenes()
    assert len(limited.kept) == 2
    assert digest(limited) == digest(whole)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, if another test left threads
def test_forked_workers_share_the_cache():
    data = scenes()
    worker = multiprocessing.get_context("fork").Process(target=data.__getitem__, args=(2,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert data.kept["ready"].tolist() == [0, 0, 1, 0, 0, 0]
    assert equal(data[2], scenes(cache=False)[2])


def test_a_pickled_data_set_works_and_carries_no_images():
    data = scenes(train=200)
    for index in range(20):
        data[index]
    travelling = pickle.dumps(data)
    assert len(travelling) < 20_000
    assert equal(pickle.loads(travelling)[5], data[5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("segmentation", "dept")}, "no task 'dept'; did you mean \"depth\""),
        ({"tasks": ()}, "at least one task"),
        ({"tasks": ("depth", "depth")}, "none twice"),
        ({"size": (8, 64)}, r"at least 16 pixels; got \(8, 64\)"),
        ({"size": (64,)}, r"\(height, width\)"),
        ({"train": 0}, "train"),
        ({"difficulty": "eays"}, "difficulty"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**options)


def test_unknown_split():
    with pytest.raises(DataError, match="no split 'trian'; did you mean \"train\""):
        scenes("trian")


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_outside_is_refused(index):
    with pytest.raises(IndexError, match="6 images"):
        scenes()[index]


def test_iteration_ends():
    assert len(list(iter(scenes()))) == 6


def test_numbers_do_not_come_from_the_global_generators():
    np.random.seed(0)
    torch.manual_seed(0)
    state = np.random.get_state()[1].copy()
    first = scenes()[0]
    torch.manual_seed(1)
    assert (np.random.get_state()[1] == state).all()
    assert equal(scenes()[0], first)

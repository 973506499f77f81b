"""Every sample is decoded once, whoever asks; nothing that happens to the files or the disk changes a sample."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from mtl_core import BinaryEdges, DataError, Depth, Sample, Segmentation, Task, Tasks
from mtl_core.testing import Shapes
from mtl_data import cached, caching, folder, store

SIZE = (6, 8)
TASKS = Tasks([Segmentation(name="s", channels=5), Depth(name="d")])
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Files:
    """A data set of N files, each of which holds the number that its sample is made of; it counts what it reads."""

    def __init__(self, root: Path, labelled: Any = None, size: tuple[int, int] = SIZE) -> None:
        self.paths = sorted(root.glob("*.txt"))
        self.tasks = TASKS
        self.names = [path.stem for path in self.paths]
        self.size = size
        self.labelled = None if labelled is None else torch.tensor(labelled)
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no sample {index}")
        self.reads[index] += 1
        text = self.paths[index].read_text()
        if text == "damaged":
            raise DataError(f"{self.paths[index]}: damaged")
        g = torch.Generator().manual_seed(int(text))
        image = torch.randint(0, 256, (3, *self.size), generator=g).to(torch.uint8)
        depth = torch.randint(1, 9000, (1, *self.size), generator=g).float() / 1000
        targets = {"s": torch.randint(-1, 5, self.size, generator=g), "d": depth}
        kept = [True, True] if self.labelled is None else self.labelled[index].tolist()
        return Sample(image, {name: targets[name] for name, k in zip(targets, kept, strict=True) if k})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    for number in range(5):
        (made / f"{number}.txt").write_text(str(number))
    return made


def opened(root: Path, settings: dict[str, object] | None = None, **options: Any) -> Any:
    dataset = Files(root, **options)
    return cached(dataset, dataset.paths, settings or {"size": SIZE})


def same(a: Sample, b: Sample) -> bool:
    if not torch.equal(a.image, b.image) or a.targets.keys() != b.targets.keys():
        return False
    pairs = [(a.targets[name], b.targets[name]) for name in a.targets]
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def assert_right(dataset: Any, root: Path, **options: Any) -> None:
    fresh = Files(root, **options)
    assert len(dataset) == len(fresh)
    assert all(same(dataset[i], fresh[i]) for i in range(len(fresh)))


def all_read(dataset: Any) -> Any:
    for index in range(len(dataset)):
        dataset[index]
    return dataset


def test_a_sample_is_decoded_once_for_all_runs(root: Path, cache: Path) -> None:
    assert_right(opened(root), root)
    later = opened(root)
    assert_right(later, root)
    assert later.dataset.reads == {}
    assert len(list(cache.glob("*.samples"))) == 1


def test_it_is_as_the_data_set(root: Path) -> None:
    dataset = opened(root)
    assert (dataset.tasks, dataset.names, dataset.labelled) == (TASKS, ["0", "1", "2", "3", "4"], None)
    for index in (-1, 5):
        with pytest.raises(IndexError, match="there is no sample"):
            dataset[index]


def test_keep_false_gives_the_data_set_itself(root: Path, cache: Path) -> None:
    dataset = Files(root)
    assert cached(dataset, dataset.paths, {}, keep=False) is dataset
    assert not cache.exists()


def test_nothing_is_made_before_a_sample_is_asked_for(root: Path, cache: Path) -> None:
    opened(root)
    assert not cache.exists()


def test_what_was_handed_out_is_the_callers(root: Path) -> None:
    dataset = all_read(opened(root))
    for _ in range(2):
        sample = dataset[3]
        sample.image.zero_()
        sample.targets["d"].fill_(7)
    assert_right(dataset, root)


def test_missing_labels_stay_missing(root: Path) -> None:
    mask = [[False, True], [True, True], [False, False], [True, False], [False, True]]
    all_read(opened(root, labelled=mask))
    later = opened(root, labelled=mask)
    assert_right(later, root, labelled=mask)
    assert later.dataset.reads == {}
    assert list(later[2].targets) == []


def test_a_label_that_only_a_late_sample_has_finds_room(root: Path) -> None:
    """The mask says which sample to look at."""
    mask = [[True, False]] * 3 + [[True, True], [True, False]]
    assert_right(all_read(opened(root, labelled=mask)), root, labelled=mask)
    assert opened(root, labelled=mask).store.layout.fields[2].name == "d"


def test_a_changed_file_renews_the_cache_and_the_old_one_goes(root: Path, cache: Path) -> None:
    before = all_read(opened(root)).store.path
    (root / "2.txt").write_text("77")
    later = all_read(opened(root))
    assert later.store.path != before
    assert list(cache.glob("*.samples")) == [later.store.path]
    assert_right(later, root)


def test_a_time_of_change_counts_too(root: Path) -> None:
    before = opened(root).key
    os.utime(root / "2.txt", ns=(1, 1))
    assert opened(root).key.content != before.content
    assert opened(root).key.identity == before.identity


def test_other_settings_are_another_cache_beside_it(root: Path, cache: Path) -> None:
    all_read(opened(root))
    all_read(opened(root, {"size": (3, 4)}, size=(3, 4)))
    assert len(list(cache.glob("*.samples"))) == 2
    later = opened(root)
    assert_right(later, root)
    assert later.dataset.reads == {}


def test_a_tasks_metrics_do_not_matter(root: Path) -> None:
    """Runs with other losses or metrics share a cache; those with another number of classes do not."""

    def key(*tasks: Task) -> Any:
        dataset = Files(root)
        dataset.tasks = Tasks(tasks)
        return cached(dataset, dataset.paths, {}).key  # type: ignore[attr-defined]

    plain = BinaryEdges(name="e")
    assert key(plain) == key(BinaryEdges(name="e", positive_weight=0.5))
    segmentation = [Segmentation(name="s", channels=count) for count in (13, 40)]
    assert len({key(plain).identity, *(key(task).identity for task in segmentation)}) == 3


def test_other_code_of_the_package_is_another_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened(root).key
    monkeypatch.setattr(caching, "_code", lambda module: "changed")
    assert opened(root).key.content != before.content


def test_a_link_to_the_folder_is_the_same_data(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert opened(tmp_path / "link").key == opened(root).key


def test_a_damaged_file_is_told_of_and_keeps_the_others(root: Path) -> None:
    (root / "0.txt").write_text("damaged")
    dataset = opened(root)
    for _ in range(2):
        with pytest.raises(DataError, match="damaged"):
            dataset[0]
        assert same(dataset[1], Files(root)[1])
    assert dataset.dataset.reads[1] == 1


def half_written(self: Any, index: int, record: Any) -> None:
    """What a process that is killed in the middle of a record leaves."""
    with self.path.open("rb+") as file:
        file.seek(self.records_at + index * len(record))
        file.write(record[: len(record) // 2].data)
    os.kill(os.getpid(), signal.SIGKILL)


@forks
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 warns of threads; the child uses none
def test_a_killed_writer_leaves_no_half_sample(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(root)
    dataset[0]
    child = os.fork()
    if child == 0:
        store.Store.put = half_written  # type: ignore[method-assign]
        dataset[1]
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert_right(dataset, root)
    later = opened(root)
    assert_right(later, root)
    assert later.dataset.reads == {}


def test_a_record_that_the_disk_lost_is_read_again(root: Path) -> None:
    """After a crash of the machine a checksum may be there and its record not, or in part."""
    path = all_read(opened(root)).store.path
    about = opened(root).store
    with path.open("rb+") as file:
        file.seek(about.records_at + about.layout.size + 16)
        file.write(bytes(64))
    later = opened(root)
    assert_right(later, root)
    assert later.dataset.reads == {1: 1}
    last = opened(root)
    assert_right(last, root)
    assert last.dataset.reads == {}


@pytest.mark.parametrize("damage", ["", "no cache\n", '{"format": "older"}\n', "{}\n"])
def test_a_file_that_is_no_cache_is_replaced(root: Path, damage: str) -> None:
    path = all_read(opened(root)).store.path
    path.write_text(damage)
    assert_right(opened(root), root)


def test_a_cut_file_is_replaced(root: Path) -> None:
    path = all_read(opened(root)).store.path
    os.truncate(path, path.stat().st_size - 1)
    assert_right(opened(root), root)


def test_values_that_nobody_had_seen_before_are_kept_too(root: Path) -> None:
    class Odd(Files):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            if index == 1:
                sample.targets["d"] = sample.targets["d"] / 3
            if index == 3:
                sample.targets["s"][0, 0] = 255
            return sample

    def odd() -> Any:
        return cached(Odd(root), Odd(root).paths, {})

    one = odd()
    other = odd()
    one[1], other[3], one[0], other[0]
    for dataset in (one, other, one):
        assert all(same(dataset[i], Odd(root)[i]) for i in range(5))
    before = one.dataset.reads.copy()
    assert all_read(one).dataset.reads == before
    later = odd()
    assert all(same(later[i], Odd(root)[i]) for i in range(5))
    assert later.dataset.reads == {}


def test_a_sample_of_another_size_is_read_every_time_and_said_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Sizes(Files):
        def __getitem__(self, index: int) -> Sample:
            self.size = (4, 4) if index in (1, 3) else SIZE
            return super().__getitem__(index)

    dataset = all_read(all_read(cached(Sizes(root), Sizes(root).paths, {})))
    assert all(same(dataset[i], Sizes(root)[i]) for i in range(5))
    assert dataset.dataset.reads[1] == 3
    assert [record.message for record in caplog.records] == [
        "Sizes: sample 1 (image (3, 4, 4), s (4, 4), d (1, 4, 4)) is not of the form of the others, and is read from"
        " its files in every epoch, like all such samples"
    ]


def test_a_full_disk_stops_the_keeping_and_not_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = opened(root)
    dataset[0]
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, store.LEFT + 10))  # type: ignore[attr-defined]
    assert_right(all_read(dataset), root)
    (message,) = [record.message for record in caplog.records]
    assert "1.0 GiB are free" in message
    assert "free some room, or set MTL_CACHE to another folder" in message
    monkeypatch.undo()


def test_an_error_of_the_disk_is_told_and_the_run_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    dataset = opened(root)
    dataset[0]
    monkeypatch.setattr(store.Store, "put", full)
    assert_right(all_read(dataset), root)
    (message,) = [record.message for record in caplog.records]
    assert message.endswith("No space left on device; free some room, or set MTL_CACHE to another folder")


def test_without_a_folder_samples_are_read_from_their_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "file" / "cache"))
    assert_right(all_read(opened(root)), root)
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("Files: no samples are kept (")


def test_what_another_run_removed_is_read_on(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = opened(root)
    dataset[0]
    dataset.store.path.unlink()
    assert_right(all_read(dataset), root)
    assert [dataset.dataset.reads[i] for i in range(5)] == [2, 2, 3, 2, 3]  # 0, 2 and 4 were looked at in the beginning
    assert caplog.records == []


def size_of(root: Path) -> int:
    return all_read(opened(root)).store.path.stat().st_size  # type: ignore[no-any-return]


def test_the_oldest_caches_make_room(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        path = all_read(opened(root, {"number": number})).store.path
        os.utime(path, (1000 + number, 1000 + number))
    opened(root, {"number": 0})[0]  # used again: it is not the oldest any more
    monkeypatch.setenv("MTL_CACHE_LIMIT", str(3.5 * path.stat().st_size / 2**30))
    opened(root, {"number": 3})[0]
    left = {opened(root, {"number": number}).key.file: number for number in range(4)}
    assert sorted(left[path.name] for path in cache.glob("*.samples")) == [0, 2, 3]


def test_what_the_limit_does_not_allow_is_read_every_time(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = opened(root).store.layout.size + 8
    monkeypatch.setenv("MTL_CACHE_LIMIT", str(2.5 * room / 2**30))
    dataset = all_read(all_read(opened(root, {"other": 1})))
    assert_right(dataset, root)
    assert [dataset.dataset.reads[i] for i in (1, 3)] == [1, 3]
    assert "2 of 5 samples are kept; MTL_CACHE_LIMIT is the limit in GiB" in caplog.records[0].message
    monkeypatch.setenv("MTL_CACHE_LIMIT", "0")
    assert_right(opened(root, {"other": 2}), root)


@pytest.mark.parametrize("value", ["much", "-1", "nan"])
def test_a_wrong_limit_is_refused(root: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_CACHE_LIMIT", value)
    with pytest.raises(Exception, match=f'MTL_CACHE_LIMIT: expected a size in GiB such as "64", found "{value}"'):
        opened(root)[0]


def test_what_killed_processes_left_is_removed_some_day(root: Path, cache: Path) -> None:
    cache.mkdir()
    for name, age in (("old", 1e6), ("new", 0.0)):
        path = cache / f".{name}.part"
        path.write_text("")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    opened(root)[0]
    assert [path.name for path in cache.glob(".*.part")] == [".new.part"]


def test_it_lies_below_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MTL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.cache_folder() == tmp_path / ".cache" / "mtl"


def test_what_travels_to_a_process_is_small_and_opens_the_same_file(root: Path) -> None:
    dataset = all_read(opened(root))
    travelled = pickle.dumps(cached(Shapes(9, (64, 64), "train"), [], {}))
    assert len(travelled) < 2000
    there = pickle.loads(pickle.dumps((dataset.key, dataset.settings)))
    assert there == (dataset.key, dataset.settings)


def read_all(samples: int, ready: Any, answers: Any) -> None:
    """In a process: read every sample when the other process is there too."""
    made = cached(Shapes(samples, (16, 16), "train"), [], {})
    ready.wait()
    answers.put([made[i].targets["depth"].sum().item() for i in range(samples)])


@forks
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 warns of threads; the child uses none
def test_two_runs_may_build_it_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(2)
    answers = context.Queue()
    runs = [context.Process(target=read_all, args=(40, ready, answers)) for _ in range(2)]
    for run in runs:
        run.start()
    found = [answers.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    right = [Shapes(40, (16, 16), "train")[i].targets["depth"].sum().item() for i in range(40)]
    assert found == [right, right]
    assert len(list(cache.glob("*.samples"))) == 1
    kept = cached(Shapes(40, (16, 16), "train"), [], {}).store  # type: ignore[attr-defined]
    assert all(kept.get(i) is not None for i in range(40))


def loaded(dataset: Any, start: str) -> Iterator[Sample]:
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=start))


@pytest.mark.parametrize("start", [pytest.param("fork", marks=forks), pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 warns of threads; the child uses none
def test_workers_share_it(start: str) -> None:
    """What a worker decodes is there for this process, and the other way round."""
    plain = Shapes(8, (16, 16), "train")
    dataset = cached(Shapes(8, (16, 16), "train"), [], {})
    assert same(dataset[2], plain[2])
    found = list(loaded(dataset, start))
    assert all(same(a, plain[i]) for i, a in enumerate(found))
    kept = dataset.store  # type: ignore[attr-defined]
    assert all(kept.get(i) is not None for i in range(8))


def test_files_that_are_missing_are_a_state_too(root: Path) -> None:
    dataset = Files(root)
    gone = root / "5.txt"
    before = cached(dataset, [*dataset.paths, gone], {}).key  # type: ignore[attr-defined]
    gone.write_text("5")
    assert cached(dataset, [*dataset.paths, gone], {}).key.content != before.content  # type: ignore[attr-defined]


def test_the_file_says_what_is_in_it(root: Path) -> None:
    with all_read(opened(root)).store.path.open("rb") as file:
        about = json.loads(file.readline())
    assert about["about"] == {"settings": {"size": [6, 8]}, "tasks": ["s", "d"]}


class SomeLabels(Files):
    """It can leave labels out, and counts those that it reads."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.labels: Counter[tuple[int, str]] = Counter()

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        sample = super().__getitem__(index)
        self.labels.update((index, name) for name in tasks)
        return Sample(sample.image, {name: label for name, label in sample.targets.items() if name in tasks})


def opened_some(root: Path, **options: Any) -> Any:
    dataset = SomeLabels(root, **options)
    return cached(dataset, dataset.paths, {"size": SIZE})


ONE_EACH = ("d", "s", "d", "s", "s")


def test_only_labels_that_are_wanted_are_read_and_kept(root: Path) -> None:
    first, fresh = opened_some(root), Files(root)
    for index, name in enumerate(ONE_EACH):
        sample = first.sample_with(index, {name})
        assert list(sample.targets) == [name]
        assert torch.equal(sample.targets[name], fresh[index].targets[name])
    assert set(first.dataset.labels) == set(enumerate(ONE_EACH))
    all_read_some(first)  # what made room for another task's labels began the file anew
    later = opened_some(root)
    all_read_some(later)
    assert later.dataset.reads == {}


def all_read_some(dataset: Any) -> None:
    for index, name in enumerate(ONE_EACH):
        dataset.sample_with(index, {name})


def test_a_run_that_wants_other_labels_adds_them(root: Path) -> None:
    all_read_some(opened_some(root))
    assert_right(opened_some(root), root)
    later = opened_some(root)
    assert_right(later, root)
    all_read_some(later)
    assert later.dataset.reads == {}
    assert list(later.sample_with(0, ()).targets) == []


def test_a_label_that_is_asked_for_and_absent_is_asked_for_once(root: Path) -> None:
    mask = [[True, False]] * 5
    first = opened_some(root, labelled=mask)
    for index in range(5):
        assert list(first.sample_with(index, {"s", "d"}).targets) == ["s"]
    later = opened_some(root, labelled=mask)
    assert [list(later[i].targets) for i in range(5)] == [["s"]] * 5
    assert later.dataset.reads == {}


def test_a_sample_that_cannot_be_read_does_not_end_the_keeping(root: Path) -> None:
    (root / "0.txt").write_text("damaged")
    data = opened_some(root)
    with pytest.raises(DataError, match="damaged"):
        data.sample_with(0, {"s"})
    data.sample_with(1, {"s"})
    assert data.store is not None
    data.sample_with(1, {"s"})
    assert data.dataset.reads[1] == 2  # once for the layout, once for the sample


def test_a_label_without_a_value_does_not_make_others_large(root: Path) -> None:
    """Values of 0 fit into a byte; those that come later take the next type, not the largest."""

    class BlankFirst(SomeLabels):
        def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
            sample = super().sample_with(index, tasks)
            if index == 0 and "d" in sample.targets:
                sample.targets["d"].zero_()
            return sample

    dataset = BlankFirst(root)
    data = all_read(cached(dataset, dataset.paths, {}))
    kinds = {field.name: field.kind for field in data.store.layout.fields}
    assert kinds == {"<image>": "uint8", "s": "i1", "d": "u2"}


def test_a_record_that_is_written_again_is_never_half_seen(root: Path) -> None:
    """While it is written its checksum is 0, and a process that has read it before looks again."""
    data = all_read(opened_some(root))
    kept, whole = data.store, data.store.get(2)
    with kept.path.open("rb+") as file:
        file.seek(kept.sums_at + 8 * 2)
        file.write(bytes(8))
    assert kept.get(2) is None
    changed = whole.copy()
    changed[0] ^= 1
    kept.put(2, changed)
    assert (kept.get(2) == changed).all()

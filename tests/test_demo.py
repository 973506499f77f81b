"""`make demo`, on rooms that are small enough for a test."""

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
SMALL = {"epochs = 12": "epochs = 1", "size = [64, 96]": "size = [32, 48]", "train = 256": "train = 4",
         "test = 64": "test = 4", "width = 16": "width = 4"}  # fmt: skip


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some(miou, depth=(0.5, 0.4), normals=(30.0, 30.0)):
    return {"segmentation/miou": list(miou), "depth/abs_err": list(depth), "normals/mean_angle": list(normals)}


def written(folder, replacements):
    (folder / "demo.py").write_text((EXAMPLES / "demo.py").read_text())
    for file in EXAMPLES.glob("demo-*.toml"):
        text = file.read_text()
        for large, small in replacements.items():
            assert large in text, f"{file.name} has no {large!r}"
            text = text.replace(large, small)
        (folder / file.name).write_text(text)


def test_the_demo_trains_compares_and_draws(tmp_path):
    written(tmp_path, SMALL)
    ran = subprocess.run(
        [sys.executable, "demo.py", "out", "0", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    said = " ".join(ran.stdout.split())
    assert "segmentation mIoU % ↑" in said
    assert "IAL raised its primary task" in said or "these runs show no gain" in said
    assert len(list((tmp_path / "out").glob("*/report.html"))) == 4
    with Image.open(tmp_path / "out" / "demo.png") as picture:
        assert picture.width > 7 * 48


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_training_goes_on_behind_a_demo_that_was_stopped(tmp_path, number):
    written(tmp_path, SMALL | {"epochs = 12": "epochs = 100000"})
    ran = subprocess.Popen([sys.executable, "demo.py", "out", "0"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while len(list((tmp_path / "out").glob("*/metrics.jsonl"))) < 1:
        assert ran.poll() is None
        time.sleep(0.1)
    children = [int(pid) for pid in Path(f"/proc/{ran.pid}/task/{ran.pid}/children").read_text().split()]
    assert children
    ran.send_signal(number)
    ran.wait(60)
    ended_by = time.monotonic() + 60
    while any(runs(child) for child in children):
        assert time.monotonic() < ended_by, "a child goes on"
        time.sleep(0.1)


def runs(process):
    """Whether a process is there and more than a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_it_claims_a_gain_only_where_every_seed_has_one(demo):
    plain = some([40.0, 42.0])
    raised = demo.conclusion(plain, some([42.0, 45.0], depth=(0.6, 0.6)))
    assert raised == (
        "IAL raised its primary task, segmentation from 41.0 to 43.5 % mIoU, in 2 of 2 seeds; the others: depth -35 %,"
        " normals +0 %."
    )
    mixed = demo.conclusion(plain, some([60.0, 41.0]))
    assert mixed.endswith("was better in 1 of 2 seeds: these runs show no gain.")
    noise = demo.conclusion(plain, some([40.1, 45.0]))
    assert noise.endswith("was better in 2 of 2 seeds: these runs show no gain.")


def test_gains_are_positive_where_the_method_is_better(demo):
    assert demo.gains([50.0], [55.0], True) == pytest.approx([10.0])
    assert demo.gains([0.5], [0.6], False) == pytest.approx([-20.0])

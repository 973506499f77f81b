"""The losses of ten steps of six experiments, to the last bit: do they survive a refactoring?

``python tests/benchmarks/ten_steps.py --write before.json`` before the change, ``--check before.json`` after it, on one
machine: other processors round differently, and so do sums over another number of threads (one is used).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 10

COMMON = """
epochs = 10
batch_size = 4
validation = 0.0
learning_rate = 1e-3

[plugins.scenes]
size = [32, 48]
train = 4
test = 2
[plugins.onelabel]
[plugins.segnet]
width = 4
"""

EXPERIMENTS = {
    "supervised": "",
    "jtr": "[plugins.jtr]\n",
    "ial": '[plugins.ial]\nprimary = "segmentation"\n',
    "jtr-ial": '[plugins.jtr]\n[plugins.ial]\nprimary = "segmentation"\n',
    "mtpsl": "[plugins.mtpsl]\n",
    "pcgrad-parameters": '[plugins.torchjd]\naggregator = "PCGrad"\n',
}


def losses(name: str, folder: Path) -> list[str]:
    """One step per epoch, so that ``metrics.jsonl`` holds the loss of every step."""
    file = folder / f"{name}.toml"
    level = 'level = "parameters"\n' if name.endswith("parameters") else ""
    file.write_text(f'name = "{name}"\n{level}{COMMON}{EXPERIMENTS[name]}', "utf-8")
    command = [sys.executable, "-m", "mtl_core.cli", "train", str(file), "--out", str(folder / name), "--quiet"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=one_thread)
    records = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert len(records) == STEPS
    return [float(record["train/loss"]).hex() for record in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: losses(name, Path(folder)) for name in EXPERIMENTS}
    if arguments.write:
        arguments.write.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.check:
        before = json.loads(arguments.check.read_text("utf-8"))
        different = [name for name in found if found[name] != before[name]]
        print("bit-identical" if not different else f"different: {', '.join(different)}")
        sys.exit(bool(different))


if __name__ == "__main__":
    main()

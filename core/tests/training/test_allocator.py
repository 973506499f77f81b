"""Freed memory stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from mtl_core.training.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [torch.zeros(400_000) for _ in range(20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
keep_freed_memory(torch.device(DEVICE))
faults()
print(faults())
"""
"""Twenty blocks of 1.5 MiB, as twenty branch gradients are, in each of ten steps."""


def counted(device: str, **environment: str) -> tuple[int, int]:
    """Page faults before and after."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", f"DEVICE = {device!r}\n{FAULTS}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=plain | environment)
    before, after = map(int, done.stdout.split())
    return before, after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
def test_pages_are_not_given_back_between_steps() -> None:
    before, after = counted("cpu")
    if before < 10_000:
        pytest.skip("what was imported has raised glibc's threshold already: nothing is given back")
    assert after < before / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
def test_thresholds_of_the_environment_stay() -> None:
    """`make bench` measures memory so: a process that keeps what it freed is larger than what lives in it."""
    low = "65536"
    before, after = counted("cpu", MALLOC_MMAP_THRESHOLD_=low, MALLOC_TRIM_THRESHOLD_=low)
    assert after > before / 2

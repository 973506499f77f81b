"""Freed memory stays with the process: what a step frees, the next one asks for again."""

from __future__ import annotations

import torch

_LARGEST = 2**25 - 2**13
"""Bytes of the largest block from which glibc still learns, less its own header and a page."""


def keep_freed_memory(device: torch.device) -> None:
    """Let glibc keep up to 64 MiB of freed memory, where a step on the CPU works with its allocator.

    glibc gives freed memory back to the system beyond a threshold that begins at 128 KiB, and a step then spends part
    of its time on page faults. The threshold follows the largest mapped block that was freed: twice its size, of blocks
    up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD). Thresholds that the environment sets stay as they are, and other C
    libraries see a block come and go.
    """
    if device.type == "cpu":
        # never written, so that no page of it is used
        torch.empty(_LARGEST, dtype=torch.uint8)

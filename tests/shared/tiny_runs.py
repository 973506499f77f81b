"""Experiments and suites on rendered rooms that train in seconds, for tests that cross distributions."""

from __future__ import annotations

EXPERIMENT = """
name = "tiny"
epochs = 1
batch_size = 2
validation = 0.0
device = "cpu"
[plugins.scenes]
size = [32, 48]
train = 4
test = 2
[plugins.full]
[plugins.segnet]
width = 2
"""

SUITE_DEFAULTS = """
[defaults.plugins.scenes]
size = [32, 32]
train = 8
test = 4
[defaults.plugins.segnet]
width = 4
"""
"""Data and network of a suite; its other defaults come before it."""

"""MTPSL: cross-task consistency in joint spaces of pairs of tasks."""

from mtl_mtpsl.plugin import MTPSL

__all__ = ["MTPSL"]

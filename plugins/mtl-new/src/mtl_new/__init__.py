"""Plugins from templates."""

from mtl_new.creation import KINDS, create

__all__ = ["KINDS", "create"]

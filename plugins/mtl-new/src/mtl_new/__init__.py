"""Plugins from templates."""

from mtl_new.creation import KINDS, create
from mtl_new.packing import pack

__all__ = ["KINDS", "create", "pack"]

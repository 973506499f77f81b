"""Fixtures of core's tests."""

from mtl_core.testing.distributions import install, toy

__all__ = ["install", "toy"]

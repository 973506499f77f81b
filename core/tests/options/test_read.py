"""Every mistake in a table of values, each with its place."""

from __future__ import annotations

from typing import Any

from attrs import field, validators

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.read import read_options


@plugin
class Mean:
    """A plugin whose options cover every kind of type."""

    factor: float = field(default=1.0, validator=validators.gt(0))
    low: float = 0.0
    high: float = field(default=1.0)
    size: tuple[int, int] | None = None

    @high.validator
    def above(self, attribute: object, value: float) -> None:
        if value <= self.low:
            raise ValueError(f"'high' must be above low, {self.low}")

    @hookimpl
    def combine_losses(self, losses: Any) -> Any:
        return losses.mean() * self.factor


def test_a_validator_that_compares_options_runs_beside_the_others() -> None:
    assert read_options(Mean, {"low": 2.0, "high": 1.0, "factor": -1.0}, "plugins.mean")[1] == [
        "plugins.mean.factor: must be > 0, found -1.0",
        "plugins.mean.high: must be above low, 2.0",
    ]
    assert read_options(Mean, {"low": "x", "high": 1.0}, "m")[1] == ['m.low: expected a number, found "x" (text)']

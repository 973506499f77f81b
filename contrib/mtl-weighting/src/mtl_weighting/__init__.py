"""Task weighting; the mathematics of its methods on plain tensors can be imported from here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_weighting.gradnorm import relative_rates, slopes
    from mtl_weighting.imtl import impartial_gradients, scaled_losses
    from mtl_weighting.nash import bargain, limited
    from mtl_weighting.rules import uncertainty_terms
    from mtl_weighting.uw_so import inverse_weights
else:
    _HOMES = {
        "relative_rates": "gradnorm",
        "slopes": "gradnorm",
        "impartial_gradients": "imtl",
        "scaled_losses": "imtl",
        "bargain": "nash",
        "limited": "nash",
        "uncertainty_terms": "rules",
        "inverse_weights": "uw_so",
    }

    # only on demand: a plugin's module is imported when an experiment names it, and no other with it
    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "bargain",
    "impartial_gradients",
    "inverse_weights",
    "limited",
    "relative_rates",
    "scaled_losses",
    "slopes",
    "uncertainty_terms",
]

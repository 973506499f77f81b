"""Settings that TorchJD's solvers need, for tests that try every method."""

from __future__ import annotations

PREFERENCE = (1.0, 2.0, 3.0)

SETTINGS = {
    "CAGrad": {"c": 0.4},
    "CRMOGM": {"weighting": "UPGrad"},
    "Constant": {"weights": PREFERENCE},
    "FairGrad": {"alpha": 1.0},
    "Krum": {"n_byzantine": 0},
    "TrimmedMean": {"trim_number": 0},
    "COSMOS": {"lambda_": 0.1, "weights": PREFERENCE},
    "PBI": {"theta": 0.1, "weights": PREFERENCE},
    "STCH": {"mu": 0.5},
}

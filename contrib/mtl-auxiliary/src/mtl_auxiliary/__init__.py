"""Auxiliary-task weighting: how much each auxiliary task may say in the shared encoder."""

from mtl_auxiliary.auto_lambda import AutoLambda
from mtl_auxiliary.gcs import GCS
from mtl_auxiliary.ol_aux import OLAUX

__all__ = ["GCS", "OLAUX", "AutoLambda"]

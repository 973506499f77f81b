"""Auxiliary-task weighting: how much each auxiliary task may say in the shared encoder."""

from mtl_auxiliary.auto_lambda import AutoLambda
from mtl_auxiliary.gcs import GCS, similarity_weights
from mtl_auxiliary.ol_aux import OLAUX
from mtl_auxiliary.primary import against_primary, primary_mask

__all__ = ["GCS", "OLAUX", "AutoLambda", "against_primary", "primary_mask", "similarity_weights"]

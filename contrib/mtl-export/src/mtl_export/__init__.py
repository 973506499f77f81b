"""Trained networks as files of other formats: ``mtl export``, and in Python :func:`mtl_export.export.export_run`.

Imports nothing by itself, so that ``mtl --help`` needs no torch.
"""

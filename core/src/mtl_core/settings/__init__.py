"""Experiment files: read with every mistake at once, changed by ``--set``, compared, written."""

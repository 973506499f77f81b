"""Samples, batches and data sets."""

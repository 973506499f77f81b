"""Task weighting."""

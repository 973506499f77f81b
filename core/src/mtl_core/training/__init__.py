"""From an experiment to trained weights: session, step, seam, loop, checkpoints, evaluation."""

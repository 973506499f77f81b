"""What plugins see of one training step."""

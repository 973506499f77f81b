"""What the commands of ``mtl`` do: train, evaluate, predict, explain, list plugins."""

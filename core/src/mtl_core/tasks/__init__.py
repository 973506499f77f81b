"""The kinds of tasks, each with its loss, metrics, units and label behaviour."""

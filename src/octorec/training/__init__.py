"""A small trainer: enough to make honest checkpoints."""

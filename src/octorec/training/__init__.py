"""This is a small trainer: enough to make honest checkpoints."""

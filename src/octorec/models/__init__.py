"""Decoders as plain modules, their presets, and reading and writing their checkpoints."""

"""Models are decoders as plain modules; their presets and checkpoints are read and written here."""

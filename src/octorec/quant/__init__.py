"""From 16 bit to FP8: recipes as data, conversion of checkpoints, FP8 modules and their loading."""

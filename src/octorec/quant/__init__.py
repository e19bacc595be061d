"""Quantization turns 16 bit into FP8: recipes are data, checkpoints are converted, FP8 modules are loaded."""

"""Numerics measure what a checkpoint's weights and activations look like, and what FP8 does to them."""

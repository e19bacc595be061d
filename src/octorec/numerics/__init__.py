"""What a checkpoint's weights and activations look like, what FP8 does to them, and reports that show it."""

"""OctoRec: FP8 inference for generative recommenders, with proof that recommendations did not get worse."""

__version__ = "0.1.0"

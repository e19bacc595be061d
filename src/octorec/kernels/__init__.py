"""The operations a generative recommender is made of: `reference` specifies each in plain PyTorch."""

"""A model's answers are compared with those that transformers gives from the same checkpoint."""

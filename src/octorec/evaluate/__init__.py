"""Evaluation computes recall and NDCG, the floors beside them, and the paired verdict between two checkpoints."""

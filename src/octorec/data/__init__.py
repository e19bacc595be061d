"""Interactions, items and users are read from Parquet, CSV and public formats, and split."""

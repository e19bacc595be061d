"""Interactions, items and users from Parquet, CSV and public formats, and their splits."""

"""Measurements. Each program appends rows to `benchmarks/results/*.jsonl`; `report.py` renders them."""

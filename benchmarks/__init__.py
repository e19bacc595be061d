"""Measurements. Each program appends rows to `results/*.jsonl`; `report.py` renders them."""

import octorec as octorec  # before torch, whose threads it sets

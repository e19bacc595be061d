"""The page at `/`: people look for items, put a history together, and see what the server answers, and why."""

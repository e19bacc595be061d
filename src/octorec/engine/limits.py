"""The most that an engine can be built for. Imports no torch, so that settings can be checked before anything loads."""

MOST_ROWS = 2**16  # requests of a batch, beams of a request
MOST_CONTEXT = 2**20  # items of a history
MOST_BANNED = 2**24  # code tuples that a request's exclusions may empty
MOST_ITEMS = 2**30 - 2  # twice as many nodes are numbered in int32, and its largest value is a dead beam's

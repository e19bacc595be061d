"""The default of --hold-out. Imports nothing, so that the command line can read it."""

HOLD_OUT = 1  # newest interactions of each user that no verb learns from, and that `evaluate` and `prove` predict

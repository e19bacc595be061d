"""The margin's default. Imports nothing, so that the command line can read it."""

MARGIN = 0.05  # relative loss of recall and NDCG that is accepted, of every verb: 0.05 is 5 %

"""The verdict online has its parts here: assignment, exposures, outcomes, and the A/B verdict in the words of the
offline one.
"""

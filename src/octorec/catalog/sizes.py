"""This is the default of --codebook-sizes. It imports nothing, so that the command line can read it."""

CODEBOOK_SIZES = (8192, 8192, 8192)  # codes a level, those of OneRec-V2's paper

"""A doctor looks at a machine, and says what of OctoRec runs there, what does not, and what to do about it."""

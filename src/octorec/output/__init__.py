"""Files and folders that OctoRec writes: whole or not at all, and only in place of what OctoRec wrote before."""

"""OctoRec writes files and folders whole or not at all, and only in place of what OctoRec wrote before."""

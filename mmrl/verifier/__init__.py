"""A tiny verifier of edits, taught in two stages: SFT to write chains, then GCPO on preference pairs (Edit-R1)."""

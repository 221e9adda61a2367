"""Models that score in this process: checkpoints, their inputs, and heads of our own. Importing these needs torch."""

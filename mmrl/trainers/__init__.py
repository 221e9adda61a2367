"""Shared by SFT and GRPO: the dataset, checkpoints, callbacks, evaluation while training."""

"""What SFT and GRPO share: the dataset, checkpoints, callbacks, evaluation while training."""

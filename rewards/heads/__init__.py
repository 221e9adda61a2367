"""Rewards whose model runs in this process: a checkpoint, or a head of our own.

`X.py` holds the rewards and their options, and can be imported without torch. `X_torch.py` holds what runs the model;
importing it needs torch and transformers (the extra `train`), so rewards import it when they first score.
"""

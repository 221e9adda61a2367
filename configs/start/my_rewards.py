"""Rewards of your own: a config names them as "my_rewards:NAME"."""

from rewards import Rollout, per_rollout


@per_rollout
def brevity(rollout: Rollout, *, letters: int = 400) -> float:
    """1 for an answer of up to `letters` letters, then less."""
    return min(1.0, letters / max(len(rollout.completion), 1))

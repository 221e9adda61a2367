"""Rewards for vision-language rollouts: rules, models, and rewards made of rewards. Importing needs no torch."""

from mmrl.core.media.item import Media
from rewards.base import Reward, Rollout, Span, Verdict, per_rollout
from rewards.registry import REWARDS, get
from rewards.suite import RewardError, RewardSpec, Suite

__all__ = [
    "REWARDS",
    "Media",
    "Reward",
    "RewardError",
    "RewardSpec",
    "Rollout",
    "Span",
    "Suite",
    "Verdict",
    "get",
    "per_rollout",
]

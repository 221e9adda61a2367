"""Rewards by rule."""

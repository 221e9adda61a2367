"""Rewards as judges of preferences."""

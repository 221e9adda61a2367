"""Latent reasoning (DLR, 2601.17275): a head learns vectors that stand before the answers of a frozen model."""

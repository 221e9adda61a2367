"""The dataset directory: shards, card, report."""

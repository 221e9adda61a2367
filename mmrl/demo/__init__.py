"""The demo: curate real data, improve a small vision-language model by reinforcement learning, show what changed."""

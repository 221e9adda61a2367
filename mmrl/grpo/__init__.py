"""GRPO for any mix of text, images and videos, on top of TRL's trainer."""

"""Evaluation: records first, then scores with error bars."""

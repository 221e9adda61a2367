"""Every published benchmark in its own layout, the answers of a perfect model, and a fair judge."""

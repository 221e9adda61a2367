"""Pages of one file: training runs, evaluations and leaks."""

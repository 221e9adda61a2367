"""`mmrl train`: the config, its plan, its miniature, and the stages that run."""

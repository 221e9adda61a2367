"""Who answers: a local model, a server, a replay, another harness."""

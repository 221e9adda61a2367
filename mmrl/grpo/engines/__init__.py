"""Who draws the completions: the policy in this process, or vLLM with the policy's weights."""

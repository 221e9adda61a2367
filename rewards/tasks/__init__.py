"""What a task is: the keys of its answers, how a gold is written and read, the reward that scores it."""

"""mmrl: curate, train and evaluate vision-language models with reinforcement learning."""

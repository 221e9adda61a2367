"""mmrl: curate, train and evaluate vision-language models with reinforcement learning."""

from mmrl.core.beside import find_beside

find_beside()

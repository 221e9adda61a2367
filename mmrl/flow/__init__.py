"""How policies that make pictures learn: the mathematics of their losses, and their trainers.

Convention and shapes are those of `mmrl.model.flow`; besides, P prompts and G samples of a prompt.
"""

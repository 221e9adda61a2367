"""How a recipe runs: stages over chunks, in processes or on Ray."""

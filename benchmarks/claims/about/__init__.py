"""The claims, a file for each matter: what is expected, and the experiment that tries it."""

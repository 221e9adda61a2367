"""Tools that a model calls while it answers: typed functions, and their results as the next turn sees them."""

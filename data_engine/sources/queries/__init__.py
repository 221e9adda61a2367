"""Questions that a query answers: small databases, and their tables as pictures."""

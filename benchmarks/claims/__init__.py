"""Claims of papers, each tried on the smallest policy that can show it: `python -m benchmarks.claims`.

The policies here are tables of logits, one row for a prompt, so that a claim about an estimator takes seconds and says
nothing about pictures, language or generalisation. A claim that needs a policy that sees is not here.
"""

"""Every published benchmark in its own layout, what the best of models would answer, and a judge that is fair."""

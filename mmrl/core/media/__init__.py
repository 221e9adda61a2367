"""Images and videos: one item (`Media`) and one decoder, for the policy, judges, pages, evaluation and data engine."""

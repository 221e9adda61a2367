"""Numbers about samples: measures, languages, difficulty."""

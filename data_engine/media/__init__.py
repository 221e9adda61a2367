"""Media of others: fetched, stored, decoded within a deadline, and recognised by their public ids."""

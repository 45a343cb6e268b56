"""Memory of language models: shapes, estimates, what jobs declare, and the ladder that measures it."""

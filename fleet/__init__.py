"""A supervised fleet of Temporal workers that runs LLM assistant pipelines on your own machines."""

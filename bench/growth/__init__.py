"""How cost grows with a pipeline's assistants, with queued pipelines, and with processes."""

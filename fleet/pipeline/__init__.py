"""A pipeline: which assistant runs when and with what input, and what the pipeline's result is. No I/O."""

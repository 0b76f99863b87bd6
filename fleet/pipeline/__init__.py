"""A pipeline: which assistant runs when and with what input, and what becomes of the whole. No I/O."""

"""How much of a provider's limit a real fleet uses, beside workers that only retry."""

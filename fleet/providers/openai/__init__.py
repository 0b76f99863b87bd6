"""OpenAI and every endpoint with an OpenAI-compatible API."""

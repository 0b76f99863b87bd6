"""The LLM providers: one adapter per vendor SDK, one table of what their errors mean."""

"""The LLM providers: one folder per vendor with its adapter, and one table of what their errors mean."""

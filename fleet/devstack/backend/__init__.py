"""The Backend API's contract, served from SQLite: assistants, API keys, health."""

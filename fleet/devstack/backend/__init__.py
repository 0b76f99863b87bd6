"""A backend with the contract of the Backend API, served from SQLite: assistants, API keys, health."""

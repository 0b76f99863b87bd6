"""The HTTP server of the control process: the page with its streams, and the endpoints for programs."""

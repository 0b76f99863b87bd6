"""What the control process serves over HTTP: the page with its streams, and the addresses for machines."""

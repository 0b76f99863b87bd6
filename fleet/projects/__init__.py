"""Projects as folders: one Dotprompt file per assistant, read, checked, written and served."""

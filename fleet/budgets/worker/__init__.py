"""What each worker process does for its queue's budget: admission of calls, and reports of what they cost."""

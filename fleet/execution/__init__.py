"""One assistant's call, from the activity down to the recorded answer, whatever happens on the way."""

"""One assistant's call, from the activity to the recorded answer, including every failure on the way."""

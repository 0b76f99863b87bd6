"""What each provider's API looks like on the wire: requests, answers, streams, errors and limit headers."""

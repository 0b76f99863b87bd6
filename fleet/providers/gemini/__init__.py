"""Google's Gemini: two SDKs, two APIs."""

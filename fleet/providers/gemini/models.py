"""What differs between Gemini's models, by the longest prefix of their names. Source: Gemini's model pages."""

from fleet.providers.spec import ModelProfile

MODELS = {
    "gemini-1.5": ModelProfile(8_192),
    "gemini-2.0": ModelProfile(8_192),
    "gemini-2.5": ModelProfile(65_536),
    "": ModelProfile(65_536),
}

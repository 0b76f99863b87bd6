"""What differs between Anthropic's models, by the longest prefix of their names. Source: its model pages."""

from fleet.providers.spec import ModelProfile

# temperature and top_p were removed from the API with Opus 4.7; newer models answer 400 to either.
# Up to Opus 4.1, input and max_tokens together must fit; later models stop at the end of the window instead
# ("Handling stop reasons", model_context_window_exceeded).
MODELS = {
    "claude-3-haiku": ModelProfile(4_096, takes_schema=False, window_has_output=True),
    "claude-3-sonnet": ModelProfile(4_096, takes_schema=False, window_has_output=True),
    "claude-3-opus": ModelProfile(4_096, takes_schema=False, window_has_output=True),
    "claude-3-5-sonnet": ModelProfile(8_192, takes_schema=False, window_has_output=True),
    "claude-3-5-haiku": ModelProfile(8_192, takes_schema=False, window_has_output=True),
    "claude-3-7-sonnet": ModelProfile(64_000, takes_schema=False, window_has_output=True),
    "claude-sonnet-4": ModelProfile(64_000, takes_schema=False, window_has_output=True),
    "claude-sonnet-4-5": ModelProfile(64_000, sampling="one"),
    "claude-sonnet-4-6": ModelProfile(128_000, sampling="one"),
    "claude-haiku-4-5": ModelProfile(64_000, sampling="one"),
    "claude-opus-4": ModelProfile(32_000, takes_schema=False, window_has_output=True),
    "claude-opus-4-1": ModelProfile(32_000, sampling="one", window_has_output=True),
    "claude-opus-4-5": ModelProfile(64_000, sampling="one"),
    "claude-opus-4-6": ModelProfile(128_000, sampling="one"),
    "claude-opus-4-7": ModelProfile(128_000, sampling="none"),
    "claude-opus-4-8": ModelProfile(128_000, sampling="none"),
    "claude-sonnet-5": ModelProfile(128_000, sampling="none"),
    "claude-opus-5": ModelProfile(128_000, sampling="none"),
    "": ModelProfile(64_000, sampling="none"),
}

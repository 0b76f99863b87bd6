"""What differs between OpenAI's models, by the longest prefix of their names. Source: OpenAI's model pages."""

from fleet.providers.spec import ModelProfile

# Reasoning models, which are every gpt-N from 5 on and the o series, do not accept sampling parameters.
MODELS = {
    "gpt-3.5": ModelProfile(takes_schema=False),
    "gpt-4": ModelProfile(takes_schema=False),
    "gpt-4o": ModelProfile(),
    "gpt-4.": ModelProfile(),
    "gpt-5": ModelProfile(sampling="none"),
    "gpt-5-chat": ModelProfile(),
    "gpt-6": ModelProfile(sampling="none"),
    "o1": ModelProfile(sampling="none"),
    "o3": ModelProfile(sampling="none"),
    "o4": ModelProfile(sampling="none"),
    "": ModelProfile(),
}

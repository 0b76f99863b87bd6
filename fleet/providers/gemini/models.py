"""What differs between Gemini's models, by the longest prefix of their names. Source: Gemini's model pages."""

from fleet.providers.spec import ModelProfile, ThinkingBudget


def _with_budget(least: int, most: int, *also: int) -> ModelProfile:
    """Thinks with a budget."""
    return ModelProfile(65_536, efforts=(), budget=ThinkingBudget(least, most, also))


def _with_level(*efforts: str) -> ModelProfile:
    """Thinks at a level; a budget is still taken, but not both."""
    budget = ThinkingBudget(0, 65_536, (-1,))
    return ModelProfile(65_536, efforts=efforts, budget=budget, effort_or_budget=True)


MODELS = {
    "gemini-1.5": ModelProfile(8_192, efforts=()),
    "gemini-2.0": ModelProfile(8_192, efforts=()),
    "gemini-2.5": _with_budget(0, 24_576, -1),
    "gemini-2.5-pro": _with_budget(128, 32_768, -1),
    "gemini-2.5-flash-lite": _with_budget(512, 24_576, 0, -1),
    "gemini-3-pro": _with_level("low", "high"),
    "gemini-3.1-pro": _with_level("low", "medium", "high"),
    "gemini-3.7-flash": _with_level("low", "medium", "high"),
    "": _with_level("minimal", "low", "medium", "high"),
}

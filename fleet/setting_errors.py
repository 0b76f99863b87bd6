"""What is said of settings that are missing or wrong."""

from pydantic import ValidationError

from fleet.near_names import did_you_mean
from fleet.provider_settings import ModelSettings, ProviderSettings
from fleet.setting_files import setting_files
from fleet.setting_names import variable_of
from fleet.setting_types import shown_value

NO_BACKEND = "API_BASE_URL není nastavena (API_BASE_URL is not set)"


def _unknown_key(location: tuple[int | str, ...]) -> str:
    """What to say of a key in a provider's section that is not a setting."""
    *section, key = (str(part) for part in location)
    known = (ModelSettings if "models" in section else ProviderSettings).model_fields.keys() - {"name"}
    place = f"{variable_of(location)} ({key} in [{'.'.join(section)}] of {setting_files().toml})"
    return f"{place} is not a setting{did_you_mean(key, known)}. Remedy: use one of {', '.join(sorted(known))}"


def explain(error: ValidationError) -> str:
    """One line for each setting that is missing or wrong, naming its variable."""
    lines = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        variable = variable_of(item["loc"])
        if variable == "API_BASE_URL" and item["type"] == "missing":
            lines.append(
                f"{NO_BACKEND}. Remedy: set it to the address of the "
                "Backend API in the environment or in .env, e.g. API_BASE_URL=http://localhost:8000; or set "
                "FLEET_PROJECTS_DIR to a folder of projects"
            )
        elif item["type"] == "missing":
            lines.append(f"{variable} is not set")
        elif item["type"] == "extra_forbidden":
            lines.append(_unknown_key(item["loc"]))
        else:
            if item["type"] == "too_short":  # pydantic counts a secret's characters as items
                message = f"must have at least {item['ctx']['min_length']} characters"
            given = "(not shown)" if variable.endswith("_TOKEN") else repr(shown_value(item["input"]))
            lines.append(f"{variable}={given}: {message}")
    return "\n".join(lines)

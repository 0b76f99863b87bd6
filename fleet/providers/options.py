"""Which of an assistant's options a model takes: by its API, its profile and the provider's settings. Nothing is
sent that is known to be refused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fleet.contracts import Assistant, ModelChoice
from fleet.errors import AssistantDamaged
from fleet.model_options import OPTIONS, ModelOptions
from fleet.provider_settings import ProviderSettings
from fleet.providers.model_profiles import profile_of
from fleet.providers.registry import spec_of
from fleet.providers.spec import ModelProfile, OptionSupport

#: Fields of no provider's request that are the fleet's everywhere: what is asked of whom, with what credentials.
_SET_EVERYWHERE = frozenset(
    {"model", "messages", "stream", "headers", "extra_headers", "extra_query", "extra_body", "timeout", "base_url"}
    | {"api_key", "x_api_key", "x_goog_api_key", "key", "authorization", "access_token", "idempotency_key"}
)


#: The assistant's own fields as messages name them, by the Backend API's contract.
Words = Mapping[str, str]
CONTRACT_WORDS: Words = MappingProxyType(
    {name: name for name in (*OPTIONS, "model", "temperature", "top_p", "max_tokens", "output_schema")}
)


@dataclass(frozen=True)
class RefusedOption:
    """An option that a model does not take. ``name`` is the option's name in the Backend API's contract, ``path``
    the place within it, if it is within."""

    name: str
    says: str
    remedy: str
    path: tuple[str, ...] = ()


def refused_options(
    provider: ProviderSettings,
    model: str,
    options: ModelOptions,
    max_tokens: int | None,
    words: Words = CONTRACT_WORDS,
) -> list[RefusedOption]:
    """The options that this model of a provider does not take, each with why and what to do."""
    support = spec_of(provider.kind).options(provider)
    asked = _Asked(f"{provider.name}/{model}", profile_of(provider.kind, model), support, words)
    refused = [
        RefusedOption(name, f"{asked.name} does not take {words[name]}", support.refused[name].format_map(words))
        for name in options.given
        if name in support.refused
    ]
    left = options.without(tuple(each.name for each in refused)) or ModelOptions()
    return [
        *refused,
        *_of_effort(asked, left),
        *_of_budget(asked, left, max_tokens),
        *_of_stop(asked, left),
        *_of_provider_options(asked, left),
    ]


def left_out(provider: ProviderSettings, choice: ModelChoice, assistant: Assistant) -> tuple[str, ...]:
    """The names of an assistant's options that are not sent to another model than its own: what that model does
    not take, and fields of another provider's request."""
    options = assistant.options
    if options is None:
        return ()
    foreign = ("provider_options",) if choice.provider != assistant.provider and options.provider_options else ()
    kept = options.without(foreign) or ModelOptions()
    refused = {each.name for each in refused_options(provider, choice.model, kept, assistant.max_tokens)}
    return (*foreign, *(name for name in kept.given if name in refused))


def refuse_options(
    function_key: str, provider: ProviderSettings, model: str, options: ModelOptions | None, max_tokens: int | None
) -> None:
    """Raise AssistantDamaged if the model does not take one of the options of the assistant ``function_key``."""
    if options is None:
        return
    for each in refused_options(provider, model, options, max_tokens):
        raise AssistantDamaged(f"assistant {function_key}: {each.says}. Remedy: {each.remedy}")


def without_thinking(provider: ProviderSettings, model: str) -> ModelOptions | None:
    """The option that keeps a model from thinking, for calls that need a few words; None if it takes none."""
    efforts = profile_of(provider.kind, model).efforts or ()
    effort = next((effort for effort in ("none", "minimal") if effort in efforts), None)
    options = ModelOptions(reasoning_effort=effort)
    return options if effort and not refused_options(provider, model, options, None) else None


@dataclass(frozen=True)
class _Asked:
    """The model that is asked, and the words for its options."""

    name: str
    profile: ModelProfile
    support: OptionSupport
    words: Words


def _of_effort(asked: _Asked, options: ModelOptions) -> Iterator[RefusedOption]:
    name, effort, profile = "reasoning_effort", options.reasoning_effort, asked.profile
    if effort is None or profile.efforts is None or effort in profile.efforts:
        return
    says = f"{asked.name} does not take {asked.words[name]}"
    if profile.efforts:
        yield RefusedOption(name, f"{says} {effort!r}", f"write one of {', '.join(profile.efforts)}")
    elif profile.budget is not None and "thinking_budget" not in asked.support.refused:
        yield RefusedOption(name, says, f"set {asked.words['thinking_budget']} instead")
    else:
        yield RefusedOption(name, says, "remove it, or choose a model that thinks")


def _of_budget(asked: _Asked, options: ModelOptions, max_tokens: int | None) -> Iterator[RefusedOption]:
    name, budget, profile, words = "thinking_budget", options.thinking_budget, asked.profile, asked.words
    takes, word = profile.budget, words["thinking_budget"]
    if budget is None:
        return
    if takes is None:
        remedy = f"set {words['reasoning_effort']} instead"
        if not profile.efforts:
            remedy = "remove it, or choose a model that thinks"
        yield RefusedOption(name, f"{asked.name} does not take {word}", remedy)
        return
    if profile.effort_or_budget and options.reasoning_effort is not None:
        says = f"{asked.name} takes either {words['reasoning_effort']} or {word}, not both"
        yield RefusedOption(name, says, "remove one of them")
    if budget in takes.also:
        return
    most = max_tokens or profile.max_output_tokens
    if not takes.least <= budget <= takes.most:
        values = [f"{takes.least} to {takes.most}", *map(str, takes.also)]
        says = f"{asked.name} does not take a {word} of {budget}"
        yield RefusedOption(name, says, f"write {' or '.join(values)}")
    elif takes.below_max_tokens and most is not None and budget >= most:
        says = f"{word} {budget} is not less than {words['max_tokens']}, {most}, which bounds thinking and answer"
        yield RefusedOption(name, says, f"lower it, or raise {words['max_tokens']}")


def _of_stop(asked: _Asked, options: ModelOptions) -> Iterator[RefusedOption]:
    name, stop, support, word = "stop", options.stop, asked.support, asked.words["stop"]
    if stop is None:
        return
    if not asked.profile.takes_stop:
        yield RefusedOption(name, f"{asked.name} does not take {word}", "remove it, or choose another model")
    elif len(stop) > support.max_stops:
        says = f"{word} has {len(stop)} texts, {asked.name} takes at most {support.max_stops}"
        yield RefusedOption(name, says, "remove some")
    elif not support.blank_stops and not all(text.strip() for text in stop):
        says = f"{word} has a text of spaces or line ends alone, which {asked.name} does not take"
        yield RefusedOption(name, says, "remove it, or add a character to it")


def _of_provider_options(asked: _Asked, options: ModelOptions) -> Iterator[RefusedOption]:
    here = {tuple(map(_plain, path.split("."))) for path in asked.support.set_here}
    everywhere = {(_plain(name),) for name in _SET_EVERYWHERE}
    yield from _overriding(options.provider_options or {}, here | everywhere, (), asked.words)


def _overriding(
    given: Mapping[str, Any], taken: set[tuple[str, ...]], within: tuple[str, ...], words: Words
) -> Iterator[RefusedOption]:
    """The fields that are set by the fleet, or that would replace what contains one."""
    name = "provider_options"
    for field, value in given.items():
        path = (*within, field)
        plain = tuple(map(_plain, path))
        if plain in taken:
            says = f"{words[name]} may not contain {'.'.join(path)}, which the fleet sets"
            own = _OWN_FIELDS.get(plain[-1])
            remedy = f"remove it there, and set {words[own]}" if own else "remove it there"
            yield RefusedOption(name, says, remedy, path)
        elif any(each[: len(plain)] == plain for each in taken):
            if isinstance(value, Mapping):
                yield from _overriding(value, taken, path, words)
            else:
                says = f"{words[name]} has {'.'.join(path)}, which is not a mapping"
                yield RefusedOption(name, says, "write it as a mapping, or remove it", path)


#: The assistant's own fields for what provider_options may not contain.
_OWN_FIELDS = {
    "temperature": "temperature",
    "topp": "top_p",
    "maxtokens": "max_tokens",
    "maxoutputtokens": "max_tokens",
    "maxcompletiontokens": "max_tokens",
    "stop": "stop",
    "stopsequences": "stop",
    "seed": "seed",
    "reasoningeffort": "reasoning_effort",
    "effort": "reasoning_effort",
    "thinkinglevel": "reasoning_effort",
    "thinking": "thinking_budget",
    "thinkingbudget": "thinking_budget",
    "responseformat": "output_schema",
    "responsejsonschema": "output_schema",
    "responseschema": "output_schema",
    "format": "output_schema",
    "model": "model",
}


def _plain(name: str) -> str:
    """A field's name as it compares: APIs spell one field in more than one way."""
    return name.replace("_", "").replace("-", "").lower()


def with_provider_options(body: dict[str, Any], request_options: ModelOptions | None) -> dict[str, Any]:
    """A request's body with the provider_options in it; mappings are merged."""
    given = request_options.provider_options if request_options is not None else None
    return body if given is None else _merged(body, given)


def _merged(body: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(body)
    for name, value in added.items():
        there = merged.get(name)
        both = isinstance(there, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(there, value) if both else value  # type: ignore[arg-type]
    return merged

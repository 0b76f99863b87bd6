"""Writes the answers: text of an article's kind that says, first of all, that a simulator wrote it."""

import json
import random

from fleet.devstack.simulator.answer_json import matching_value
from fleet.devstack.simulator.calls import CHARACTERS_PER_TOKEN, Answer, Call, Finish, Options, tokens_of
from fleet.devstack.simulator.latency import Latency

MARK = "[SIMULATOR]"
_CZECH_LETTERS = set("ěščřžýáíéůúňťďĚŠČŘŽÝÁÍÉŮÚŇŤĎ")
_EXCERPT_CHARACTERS = 160
_TYPICAL_TOKENS = 950
_STREAM_PIECES = 12
#: The most tokens that a model thinks, by effort.
_OF_EFFORT = {"none": 0, "minimal": 60, "low": 200, "medium": 500, "high": 1000, "xhigh": 1500, "max": 2500}
#: What an answer shows of it.
THOUGHT = f"{MARK} First I think about what the reader asks."

_CZECH = (
    "Kvalitní obsah začíná otázkou čtenáře, ne seznamem klíčových slov.",
    "Nadpisy mají odpovídat tomu, co lidé skutečně hledají.",
    "Každé tvrzení je vhodné doložit zdrojem, který lze dohledat.",
    "Struktura článku vede od problému k řešení a končí jasným krokem.",
    "Interní odkazy pomáhají čtenáři i vyhledávači pochopit souvislosti.",
    "Krátké odstavce a konkrétní příklady udrží pozornost déle než obecné fráze.",
    "Popisek stránky shrnuje hlavní přínos ve dvou větách.",
)
_ENGLISH = (
    "Good content begins with the reader's question and not with a list of keywords.",
    "Headings should answer what people actually search for.",
    "Every claim deserves a source that can be looked up.",
    "The structure leads from the problem to its solution and ends with one clear step.",
    "Internal links help readers and search engines to see what belongs together.",
    "Short paragraphs and concrete examples hold attention longer than phrases.",
    "The description sums up the main benefit in two sentences.",
)
_REFUSAL = f"{MARK} I cannot help with that."


def write_answer(call: Call, latency: Latency, seed: int) -> Answer:
    """The answer to a call, the same for the same call and seed."""
    chance = random.Random(call.seed(seed))
    wanted = round(_TYPICAL_TOKENS * chance.lognormvariate(0.0, 0.25))
    if call.schema is not None:
        text = json.dumps(matching_value(call.schema, f"{MARK} {call.provider}/{call.model}"), ensure_ascii=False)
    else:
        text = _text(call, wanted, chance)
    text, stopped_by = _stopped(text, call.options.stop)
    thinking = _thinking_tokens(call.options, chance)
    tokens = thinking + tokens_of(text)
    finish: Finish = "stop"
    if call.max_tokens is not None and tokens > call.max_tokens:
        thinking = min(thinking, call.max_tokens)
        text, stopped_by = text[: int((call.max_tokens - thinking) * CHARACTERS_PER_TOKEN)], None
        tokens, finish = call.max_tokens, "length"
    return Answer(text, finish, tokens, latency.seconds(tokens, chance), thinking, stopped_by)


def _stopped(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the first stop text in it, and that one."""
    found = min(((place, each) for each in stop if (place := text.find(each)) >= 0), default=None)
    return (text, None) if found is None else (text[: found[0]], found[1])


def _thinking_tokens(options: Options, chance: random.Random) -> int:
    """How many tokens the model thinks."""
    most = _OF_EFFORT.get(options.effort or "none", _OF_EFFORT["medium"])
    if options.budget is not None:
        most = _OF_EFFORT["medium"] if options.budget == -1 else min(options.budget, _OF_EFFORT["max"])
    return round(most * chance.uniform(0.5, 0.9)) if most else 0


def refusing(call: Call, latency: Latency, seed: int) -> Answer:
    """A model's refusal."""
    tokens = tokens_of(_REFUSAL)
    return Answer(_REFUSAL, "refusal", tokens, latency.seconds(tokens, random.Random(call.seed(seed))))


def cut_short(answer: Answer) -> Answer:
    """The same answer, ended by its token limit half-way."""
    half = answer.text[: len(answer.text) // 2]
    return Answer(half, "length", tokens_of(half), answer.seconds)


def not_matching(answer: Answer) -> Answer:
    """JSON that does not match, as a model writes it that is not bound to the schema."""
    text = json.dumps({"simulator": f"{MARK} this does not match the schema"})
    return Answer(text, "stop", tokens_of(text), answer.seconds)


def pieces(text: str, count: int = _STREAM_PIECES) -> list[str]:
    """A text in about ``count`` parts, as a stream delivers it."""
    size = max(len(text) // count, 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _text(call: Call, tokens: int, chance: random.Random) -> str:
    czech = len(_CZECH_LETTERS.intersection(call.system + call.user)) >= 3
    head = f"{MARK} {call.provider}/{call.model}"
    excerpt = call.user.strip()[:_EXCERPT_CHARACTERS]
    if czech:
        lines = [f"{head} – text simulátoru, ne skutečného modelu.", f"Zadání začíná: „{excerpt}“"]
    else:
        lines = [f"{head}: text of a simulator, not of a real model.", f"The request begins: “{excerpt}”"]
    sentences = _CZECH if czech else _ENGLISH
    length = sum(map(len, lines))
    while length < tokens * CHARACTERS_PER_TOKEN:
        sentence = chance.choice(sentences)
        lines.append(sentence)
        length += len(sentence)
    return "\n\n".join([*lines[:2], " ".join(lines[2:])]).strip()

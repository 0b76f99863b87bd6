"""Metrics of this machine in Prometheus' text form, so far those of the journals.

Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from fleet.config import Settings
from fleet.errors import JournalUnavailable
from fleet.journal import Counts, Journal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HELP = {
    "fleet_journal_up": "Whether the provider's journal on this host can be used.",
    "fleet_journal_calls": "Calls in the provider's journal on this host, by state; old ones leave it.",
    "fleet_journal_possibly_paid_twice": "Calls in that journal that may have been paid more than once.",
}


def metrics_of(settings: Settings) -> str:
    """All metrics, read now; it blocks for as long as the files take."""
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    for provider in sorted(settings.providers):
        counts = _counts(settings, provider)
        label = f'provider="{provider}"'
        lines["fleet_journal_up"].append(f"fleet_journal_up{{{label}}} {int(counts is not None)}")
        if counts is None:
            continue
        for state, count in counts.by_state.items():
            lines["fleet_journal_calls"].append(f'fleet_journal_calls{{{label},state="{state}"}} {count}')
        twice = f"fleet_journal_possibly_paid_twice{{{label}}} {counts.maybe_paid}"
        lines["fleet_journal_possibly_paid_twice"].append(twice)
    return "".join(
        "\n".join([f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge", *found]) + "\n"
        for name, found in lines.items()
    )


def _counts(settings: Settings, provider: str) -> Counts | None:
    try:
        with Journal.of(settings, provider) as journal:
            return journal.counts()
    except JournalUnavailable:
        return None

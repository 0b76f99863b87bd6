"""What a scrape of a running fleet has, by name and labels."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.fleet import Fleet

Labels = dict[str, str]


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, fleet: Fleet) -> "Scrape":
        answer = fleet.control("metrics")
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(found) == len(samples), "a sample stands there twice"
        return cls(found)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def of_name(self, name: str) -> Iterator[tuple[Labels, float]]:
        return (
            (dict(labels), value) for (sample_name, labels), value in self.samples.items() if sample_name == name
        )

    def total(self, name: str, **wanted: str) -> float:
        """The sum over all that bear these labels."""
        return sum(
            value for labels, value in self.of_name(name) if all(labels.get(key) == wanted[key] for key in wanted)
        )

    def gained(self, since: "Scrape", name: str, **wanted: str) -> float:
        """How much it became."""
        return round(self.total(name, **wanted) - since.total(name, **wanted), 6)

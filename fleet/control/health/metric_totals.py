"""The metrics that all processes of this machine have counted, including processes that have ended; see
:mod:`fleet.process.metrics`."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from fleet.process.metrics import DAMAGED, can_be_read, merged, metrics_folder


@dataclass(frozen=True)
class Counted:
    """The metrics, summed over processes."""

    metrics: list[Metric] = field(default_factory=list)

    def by(self, sample: str, *labels: str, **wanted: str) -> dict[tuple[str, ...], float]:
        """The sums of a sample's values by these labels, for samples whose other labels are as ``wanted``."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for series in self._samples(sample):
            if all(series.labels.get(name) == value for name, value in wanted.items()):
                found[tuple(series.labels.get(name, "") for name in labels)] += series.value
        return found

    def total(self, sample: str, **wanted: str) -> float:
        """The sum over all labels."""
        return sum(self.by(sample, **wanted).values())

    def _samples(self, name: str) -> Iterator[Sample]:
        for metric in self.metrics:
            if name.startswith(metric.name):
                yield from (sample for sample in metric.samples if sample.name == name)


def read_counted(state: Path) -> Counted:
    """Read all files; a damaged one is left out and logged."""
    files = sorted(metrics_folder(state).glob("*.db"))
    try:
        return Counted(merged(files))
    except DAMAGED:
        return Counted(merged([file for file in files if can_be_read(file)]))

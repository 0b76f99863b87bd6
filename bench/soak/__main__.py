"""``scripts/soak.sh --minutes M --seed N --machines K --json``: pipelines run while their fleet is scaled, rolled,
restarted and killed at random, for so long and until every step has been done. The last line is one JSON object;
the exit status is 1 if anything was lost, a step missed, a queue without a poller for longer than 15 s, or if
there were too few pipelines or kills to show anything.

``answered_and_sent_again`` are calls whose answer had reached this host, ``cut_off_in_the_answer`` those whose
process was killed as it got the answer, before that was on the disk (see ``answers``). By
``max_seconds_without_poller`` a process polls a queue from its first pulse that says so until it is gone or drains
(see ``presence``), on the first machine; the restart of supervisord does not count. Further machines have clocks
of their own, are killed at like the first one, rolled once, and cut off from the Temporal server three times, once
for longer than the heartbeat timeout (see ``machines``)."""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.soak.kills import ENVIRONMENT
from bench.soak.machines import further_machines
from bench.soak.operations import Soak
from tests.fleet import running_fleet


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--machines", type=int, default=1, help="how many make the calls")
    parser.add_argument("--json", action="store_true", help="the last line alone")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        if not options.json:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="fleet-soak-") as folder,
        running_fleet(Path(folder, "machine-1"), ENVIRONMENT) as fleet,
        further_machines(fleet, options.machines - 1, Path(folder), say) as further,
    ):
        soak = Soak(fleet, options.minutes * 60, random.Random(options.seed), say, further)
        result = soak.run()
    for line in soak.trouble:
        print(line, file=sys.stderr)
    print(json.dumps(result), flush=True)
    sys.exit(1 if soak.trouble else 0)


if __name__ == "__main__":
    main()

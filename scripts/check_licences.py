"""Checks that every locked dependency has a licence of the allow-list: ``python scripts/check_licences.py``.

The licence is the one that the installed package states. A package of a lock that is not installed here, such as
one for another system, is in ``KNOWN``, as its wheel states it.
"""

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

#: SPDX identifiers of licences that permit use and redistribution with the fleet, and leave its own code as it is.
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Modification",
    "ISC",
    "LGPL-2.1-or-later",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "PSF-2.0",
    "Unlicense",
}
#: What packages wrote before SPDX, and what it is.
SPELLINGS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd-derived (http://www.repoze.org/license.txt)": "BSD-3-Clause-Modification",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
}
#: Locked packages that are in no environment of the checks: those of Google's older SDK, and those for Windows.
KNOWN = {
    "colorama": "BSD-3-Clause",
    "google-ai-generativelanguage": "Apache-2.0",
    "google-api-core": "Apache-2.0",
    "google-api-python-client": "Apache-2.0",
    "google-auth-httplib2": "Apache-2.0",
    "google-generativeai": "Apache-2.0",
    "googleapis-common-protos": "Apache-2.0",
    "grpcio": "Apache-2.0",
    "grpcio-status": "Apache-2.0",
    "httplib2": "MIT",
    "proto-plus": "Apache-2.0",
    "pyparsing": "MIT",
    "tqdm": "MPL-2.0 AND MIT",
    "uritemplate": "BSD-3-Clause OR Apache-2.0",
    "win32-setctime": "MIT",
}
#: For Python in a browser (Emscripten), where the fleet does not run: never installed.
NEVER_INSTALLED = {"httpx2-jsfetch"}
#: Programs that look at the dependencies, in an environment of their own; nothing imports them.
_TOOLS = {"audit"}


def licence_of(package: Distribution) -> str:
    """The SPDX expression that an installed package states; empty if it states none."""
    said = package.metadata
    if expression := said.get("License-Expression"):
        return expression
    for name in (said.get("License") or "").strip(), *_classified(package):
        if name in ALLOWED:
            return name
        if known := SPELLINGS.get(name.removeprefix("License :: OSI Approved :: ").lower()):
            return known
    return (said.get("License") or "").strip()[:60]


def _classified(package: Distribution) -> list[str]:
    classifiers = package.metadata.get_all("Classifier") or []
    return [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression without parentheses is met by the allow-list: all of an AND, one of an OR."""
    alternatives = expression.split(" OR ")
    return any(all(name.strip() in ALLOWED for name in each.split(" AND ")) for each in alternatives)


def locked() -> set[str]:
    """The names in all locks."""
    files = (file for file in Path("requirements").glob("*.txt") if file.stem not in _TOOLS)
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return {line.partition("==")[0].partition("[")[0] for line in lines if "==" in line and line[0].isalnum()}


def main() -> int:
    """Print a line for each package without an allowed licence; the exit status is 1 if there is one."""
    found = []
    for name in sorted(locked() - NEVER_INSTALLED):
        try:
            licence = KNOWN.get(name) or licence_of(distribution(name))
        except PackageNotFoundError:
            licence = ""
        if not is_allowed(licence):
            said = repr(licence) if licence else "unknown"
            found.append(
                f"{name}: its licence is {said}. Remedy: use another package, or read ALLOWED in this script"
            )
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

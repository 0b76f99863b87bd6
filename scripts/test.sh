#!/usr/bin/env bash
# Makes the environments and runs the tests.
#
#   scripts/test.sh                        all tests except those that need Debian packages and root (7 min)
#   scripts/test.sh --all                  these too, among them those on machines of their own; skips are forbidden
#   scripts/test.sh ARGUMENT...            some tests: the arguments go to pytest; google-generativeai is left out
#   scripts/test.sh --help                 this text; scripts/test.sh tests/unit --help shows pytest's own
#
#   scripts/test.sh tests/unit                                     the unit tests: no server (a minute)
#   scripts/test.sh tests/process/test_fleet.py -k added_provider  the tests of one file whose names have this
#
# A run leaves test-reports/: JUnit files, and each test's duration in durations.tsv. See CONTRIBUTING.md.
set -euo pipefail
case "${1:-}" in -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
    exit
    ;;
esac
cd "$(dirname "$0")/.."
source scripts/environment.sh
options=(-p no:cacheprovider -m "not debian")
all=''
if [ "${1:-}" = --all ]; then
    shift
    all=yes
    options=(-p no:cacheprovider --forbid-skips)
fi
make_environment .venv dev
# Without compiled modules each of some hundred processes would compile them anew.
unset PYTHONDONTWRITEBYTECODE
# Most tests wait for other processes, so there are more of them at once than cores; the tests of one file share
# their fleet and stay together.
side_by_side=(-n "${FLEET_TEST_PROCESSES:-5}" --dist loadfile --no-loadscope-reorder --max-worker-restart 0)
if [ $# -gt 0 ]; then
    for argument in "$@"; do
        case "$argument" in
        -*) ;;
        *) [ -d "$argument" ] || side_by_side=() ;; # not whole folders alone
        esac
    done
    exec .venv/bin/python -m pytest "${options[@]}" ${side_by_side[@]+"${side_by_side[@]}"} "$@"
fi

# Google's older SDK cannot share an environment with the rest, so its tests have one of their own.
legacy() {
    echo "=== google-generativeai, in its own environment"
    make_environment .venv-gemini-legacy gemini-legacy test
    nice .venv-gemini-legacy/bin/python -m pytest -q -p no:cacheprovider -o filterwarnings=default \
        --reports test-reports/legacy --junitxml=test-reports/legacy/junit.xml tests/component/simulator/legacy
}

report=$(mktemp)
trap 'wait; rm -f "$report"' EXIT # what still runs beside a step that failed ends by itself
legacy >"$report" 2>&1 &
other=$!
base=''
if [ -n "$all" ]; then
    # Before the tests, so that none of them waits for it.
    scripts/machines.sh base >/dev/null &
    base=$!
fi
# In a fresh checkout each of the processes would compile all tests by itself.
[ -d tests/unit/__pycache__ ] || .venv/bin/python -m pytest --collect-only -qq -p no:cacheprovider >/dev/null || true
[ -z "$base" ] || wait "$base"
status=0
.venv/bin/python -m pytest "${options[@]}" "${side_by_side[@]}" --durations=15 || status=$?
wait "$other" || status=$?
cat "$report"
exit "$status"

"""Packages that only re-export are loaded name by name, and nothing else about them changes."""

import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.process.lazy_packages import LazyPackages, install

THING = "class Thing:\n    pass\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes the package ``sampled``, whose submodules are ``one``, ``two`` and ``sub``."""
    finder = LazyPackages({"sampled": ("two",), "sampled.sub": ("deep",)})

    def make(init: str) -> None:
        folder = tmp_path / "sampled"
        (folder / "sub").mkdir(parents=True)
        (folder / "__init__.py").write_text(init, "utf-8")
        (folder / "one.py").write_text(THING, "utf-8")
        (folder / "two.py").write_text(THING.replace("Thing", "Other"), "utf-8")
        (folder / "sub" / "__init__.py").write_text("from ..one import Thing as Nested\n", "utf-8")
        (folder / "sub" / "deep.py").write_text(THING.replace("Thing", "Deep"), "utf-8")
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    sys.meta_path.insert(0, finder)
    yield make
    sys.meta_path.remove(finder)
    for name in loaded():
        del sys.modules[name]


def loaded() -> list[str]:
    return sorted(name for name in sys.modules if name.partition(".")[0] == "sampled")


def test_a_name_is_loaded_when_it_is_used(package: Callable[..., None]) -> None:
    package(
        "from __future__ import annotations\n"
        "from . import sub as beneath\n"
        "from .one import Thing as Thing, Thing as Alias\n"
        "from .two import Other\n"
    )
    sampled = importlib.import_module("sampled")
    assert loaded() == ["sampled"]
    assert sampled.Thing is importlib.import_module("sampled.one").Thing is sampled.Alias
    assert loaded() == ["sampled", "sampled.one"]
    assert sampled.beneath.Nested is sampled.Thing is sampled.sub.Nested


def test_submodules_are_imported_in_every_way(package: Callable[..., None]) -> None:
    package("from .one import Thing\n")
    namespace: dict[str, object] = {}
    exec("import sampled.sub\nfrom sampled import two\nfrom sampled.two import Other", namespace)
    sampled = importlib.import_module("sampled")
    assert namespace["two"] is sampled.two is sys.modules["sampled.two"]
    assert sampled.one is sys.modules["sampled.one"], "as if the __init__ had imported it"


def test_what_is_not_there_is_an_attribute_error(package: Callable[..., None]) -> None:
    package("from .one import Thing\n")
    sampled = importlib.import_module("sampled")
    with pytest.raises(AttributeError, match="module 'sampled' has no attribute 'nothing'"):
        _ = sampled.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from sampled import nothing")


@pytest.mark.parametrize("listed", ["", "__all__ = ['Thing', 'Other']\n"])
def test_dir_star_and_pickle_know_all_names(package: Callable[..., None], listed: str) -> None:
    package("from .one import Thing\nfrom .two import Other\n" + listed)
    sampled = importlib.import_module("sampled")
    assert {"Thing", "Other"} <= set(dir(sampled))
    namespace: dict[str, object] = {}
    exec("from sampled import *", namespace)
    assert {"Thing", "Other"} <= namespace.keys()
    assert isinstance(pickle.loads(pickle.dumps(sampled.Thing())), sampled.Thing)


@pytest.mark.parametrize(
    "more",
    [
        "print\n",
        "CALLED = len('abc')\n",
        "import os\n",
        "from .two import *\n",
        "try:\n    from .missing import x\nexcept ImportError:\n    x = None\n",
        "if Thing:\n    truth = True\n",
        "alias = Thing.__name__\n",
        "def two_of(thing):\n    return [thing, thing]\n",
        "class Mine(Thing):\n    pass\n",
        "from .two import Other as one\n",
    ],
)
def test_an_init_that_does_more_is_executed(package: Callable[..., None], more: str) -> None:
    package("from .one import Thing\n" + more)
    sampled = importlib.import_module("sampled")
    assert "Thing" in vars(sampled) and "sampled.one" in loaded()


def test_what_is_deferred_waits_although_the_init_is_executed(package: Callable[..., None]) -> None:
    package(
        "from .one import Thing\nfrom .two import Other\ncount = len('abc')\n"
        "def later():\n    from .two import Other\n    return Other\n"
    )
    sampled = importlib.import_module("sampled")
    assert loaded() == ["sampled", "sampled.one"] and sampled.count == 3
    assert "Other" in dir(sampled)
    assert sampled.later() is sampled.Other is importlib.import_module("sampled.two").Other


def test_what_is_deferred_shows_the_module_that_the_package_gives_it(package: Callable[..., None]) -> None:
    package(
        "from .one import Thing\ntry:\n    from .two import Other\nexcept ImportError:\n    Other = None\n"
        "for each in [Thing, Other]:\n    each.__module__ = 'sampled'\n"
        "del each\n"
    )
    sampled = importlib.import_module("sampled")
    assert loaded() == ["sampled", "sampled.one"]
    assert sampled.Other.__module__ == sampled.Thing.__module__ == "sampled"


def test_what_is_deferred_and_used_is_imported_as_ever(package: Callable[..., None]) -> None:
    package("from .two import Other\nname = Other.__name__\n")
    sampled = importlib.import_module("sampled")
    assert sampled.name == "Other" and "Other" in vars(sampled)


def test_a_subpackage_has_deferred_submodules_of_its_own(package: Callable[..., None], tmp_path: Path) -> None:
    package("from .one import Thing\n")
    optional = "try:\n    import missing_package\nexcept ImportError:\n    pass\n"
    (tmp_path / "sampled" / "sub" / "__init__.py").write_text("from .deep import Deep\n" + optional, "utf-8")
    beneath = importlib.import_module("sampled.sub")
    assert loaded() == ["sampled", "sampled.sub"]
    assert beneath.Deep is importlib.import_module("sampled.sub.deep").Deep


def test_what_runs_only_as_a_program_does_not_matter(package: Callable[..., None]) -> None:
    package("from .one import Thing\nif __name__ == '__main__':\n    print(Thing)\n")
    sampled = importlib.import_module("sampled")
    assert loaded() == ["sampled"] and sampled.__name__ == "sampled"


def test_it_is_installed_once() -> None:
    before = list(sys.meta_path)
    install({"sampled": ()})
    assert sys.meta_path == before


#: What fleet/providers and their tests use of the SDKs, by its path from the SDK's top.
USED = {
    "openai": (
        "APIStatusError APIConnectionError APIResponseValidationError AsyncOpenAI DefaultAsyncHttpxClient "
        "types.chat.ChatCompletion types.responses.Response"
    ),
    "anthropic": (
        "APIStatusError APIConnectionError APIResponseValidationError AsyncAnthropic DefaultAsyncHttpxClient "
        "types.Message types.MessageParam AnthropicBedrock"
    ),
    "httpx": "AsyncClient Response TransportError DecodingError codes.OK main",
    "prometheus_client": "CollectorRegistry Counter Histogram values.MutexValue metrics.Gauge start_http_server",
    "temporalio.client": "Client WorkflowHandle RPCError Schedule CloudOperationsClient",
    "temporalio.worker": "Worker Replayer UnsandboxedWorkflowRunner workflow_sandbox.SandboxedWorkflowRunner",
    "temporalio.workflow": "defn run signal query execute_activity ParentClosePolicy",
    "temporalio.api.workflowservice.v1": "DescribeTaskQueueRequest StartWorkflowExecutionResponse",
    "temporalio.api.cloud.cloudservice.v1": "GetUsersRequest",
}
#: The SDKs of which less than half is loaded.
HALVED = ("anthropic", "openai")
PROBE = """
import functools, importlib, json, re, sys
{first}
sdk = importlib.import_module({sdk!r})
found = {{}}
for path in {used!r}.split():
    one = functools.reduce(getattr, path.split("."), sdk)
    bases = [str(base) for base in getattr(one, "__mro__", ())]
    shown = re.sub(" at 0x[0-9a-f]+", "", repr(one))
    found[path] = [one.__module__, shown, bases, list(getattr(one, "model_fields", ()))]
count = len([name for name in sys.modules if name.partition(".")[0] == {root!r}])
print(json.dumps([found, sorted(dir(sdk)), count, [name for name in {names!r} if not hasattr(sdk, name)]]))
"""


@pytest.mark.parametrize("sdk", sorted(USED))
def test_an_sdks_names_are_what_they_are_without_it(sdk: str) -> None:
    def seen(first: str, names: list[str]) -> tuple[dict[str, object], list[str], int, list[str]]:
        root = sdk.partition(".")[0]
        probe = PROBE.format(first=first, sdk=sdk, root=root, used=USED[sdk], names=names)
        command = [sys.executable, "-c", probe]
        found, listed, count, missing = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        kept = [name for name in listed if name.strip("_") not in ("getattr", "dir", "lazy_names", "builtins")]
        return found, kept, count, missing

    plain = seen("", [])
    lazy = seen("import fleet", plain[1])
    assert lazy[0] == plain[0]
    assert lazy[3] == [], "every name is there"
    private_submodules = {
        "_asyncio",
        "_callback",
        "_nexus",
        "_plugin",
    }  # which a package lists only once they are imported
    assert set(plain[1]) - set(lazy[1]) <= private_submodules, "and listed"
    assert lazy[2] <= plain[2] / (2 if sdk in HALVED else 1), "it pays"

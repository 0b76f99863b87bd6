"""Packages that only re-export names, loaded name by name.

The SDKs import thousands of modules so that every name can be had from the top of a package; a process uses a few
dozen. Within the packages named to :func:`install`, an ``__init__`` that does nothing but import names is not
executed: each name is imported when it is first used (PEP 562), and is the same object as ever. An ``__init__``
that does anything else is executed, but for the imports named as ``deferred``. What is not understood, as in
another version of an SDK, is executed as it is.

What an ``__init__`` does is found out by a dry run of its code, with an ``__import__`` that takes notes and no
other builtin.
"""

import builtins
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn


class _Noted:
    """A name whose import was noted. It can be bound, and told what ``__module__`` it shall have, as packages do
    with what they re-export; code that does more with it is no re-export."""

    __slots__ = ("level", "module", "name", "shown_module")

    def __init__(self, module: str, level: int, name: str) -> None:
        self.module, self.level, self.name = module, level, name
        self.shown_module: str | None = None

    def __setattr__(self, attribute: str, value: object) -> None:
        super().__setattr__("shown_module" if attribute == "__module__" else attribute, value)

    def _used(self, *_: object) -> NoReturn:
        raise TypeError(f"{self.name} is used")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _used


class _NotedModule:
    """What an import statement gets for a module, to take names from."""

    def __init__(self, module: str, level: int, names: Sequence[str]) -> None:
        self.__all__ = list(names)
        self._noted = {name: _Noted(module, level, name) for name in names}

    def __getattr__(self, name: str) -> _Noted:
        try:
            return self._noted[name]
        except KeyError:
            raise AttributeError(name) from None


def _take_note(
    name: str, _globals: object = None, _locals: object = None, names: Sequence[str] | None = None, level: int = 0
) -> _NotedModule:
    """In place of ``__import__``."""
    if not names or "*" in names:
        raise ImportError("not an import of names")
    return _NotedModule(name, level, names)


def _is_constant(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(one, str) for one in value)
    return value is None or isinstance(value, str | int | float)


def _bindings(code: CodeType) -> dict[str, object] | None:
    """What a module would bind: constants, and notes; None if it does more than that."""
    if code.co_exceptiontable:  # it has a try or with block
        return None
    found: dict[str, object] = {"__builtins__": {"__import__": _take_note}}
    try:
        exec(code, found)
    except Exception:
        return None
    del found["__builtins__"]
    understood = all(isinstance(value, _Noted) or _is_constant(value) for value in found.values())
    return found if understood else None


def _submodules(folder: Path) -> frozenset[str]:
    return frozenset(entry.name.partition(".")[0] for entry in folder.iterdir())


def _notes_in(bindings: Mapping[str, object]) -> dict[str, _Noted]:
    return {name: value for name, value in bindings.items() if isinstance(value, _Noted)}


def _hidden(notes: Mapping[str, _Noted], submodules: Collection[str]) -> bool:
    """Whether a name is that of a submodule too, which takes the name's place whenever it is imported."""
    return any(name in submodules and (note.module or note.name != name) for name, note in notes.items())


class _LazyLoader(SourceFileLoader):
    """Loads a package whose names can wait."""

    def __init__(self, name: str, path: str, deferred: Collection[str]) -> None:
        super().__init__(name, path)
        self._deferred = deferred
        self._executing = False

    def exec_module(self, module: ModuleType) -> None:
        """Take note of what the ``__init__`` imports, or execute it."""
        code = self.get_code(module.__name__)
        if code is None:
            raise ImportError(f"no code for {module.__name__}", name=module.__name__)
        submodules = _submodules(Path(self.path).parent)
        bindings = _bindings(code)
        if bindings is None:
            notes = self._executed(code, module)
        elif _hidden(_notes_in(bindings), submodules):
            exec(code, module.__dict__)
            return
        else:
            notes = _notes_in(bindings)
            module.__dict__.update({name: value for name, value in bindings.items() if name not in notes})
        if notes:
            _load_on_use(module, notes, submodules)

    def _executed(self, code: CodeType, module: ModuleType) -> dict[str, _Noted]:
        """Execute the ``__init__`` but for what is deferred, of which the notes are returned."""
        namespace, before = module.__dict__, dict(module.__dict__)
        if self._deferred:
            namespace["__builtins__"] = vars(builtins) | {"__import__": self._import_or_note}
            self._executing = True
            try:
                exec(code, namespace)
            except (TypeError, AttributeError):  # a name that should have waited is used
                namespace.clear()
                namespace.update(before)
            else:
                notes = _notes_in(namespace)
                for name in notes:
                    del namespace[name]
                namespace["__builtins__"] = vars(builtins)
                return notes
            finally:
                self._executing = False
        exec(code, namespace)
        return {}

    def _import_or_note(
        self, name: str, where: Any = None, local: Any = None, names: Sequence[str] | None = None, level: int = 0
    ) -> Any:
        """In place of ``__import__``."""
        if not (self._executing and level == 1 and name in self._deferred and names):
            return __import__(name, where, local, names or (), level)
        if "*" not in names:
            return _NotedModule(name, level, names)
        package = __import__(f"{self.name}.{name}", None, None, ("",))
        public = package.__dict__.get("__lazy_names__")
        return package if public is None else _NotedModule(name, level, public)


def _load_on_use(module: ModuleType, notes: Mapping[str, _Noted], submodules: Collection[str]) -> None:
    namespace = module.__dict__
    own: Callable[[str], Any] | None = namespace.get("__getattr__")

    def load(name: str) -> Any:
        # By __import__, which Temporal's workflow sandbox replaces: so it sees no second copy of a module.
        note = notes.get(name)
        if note is not None and (note.module or note.level != 1):
            source = __import__(note.module, namespace, None, (note.name,), note.level)
            value = getattr(source, note.name)
            if note.shown_module is not None:
                value.__module__ = note.shown_module
        elif note is not None or (name in submodules and not name.startswith("__")):
            value = __import__(f"{module.__name__}.{name if note is None else note.name}", None, None, ("",))
        elif own is not None:
            return own(name)
        else:
            if name == "__all__":  # "from package import *" without it takes whatever is there
                for each in notes:
                    load(each)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        namespace[name] = value
        return value

    def names() -> list[str]:
        return sorted({*namespace, *notes} - {"__lazy_names__"})

    namespace["__lazy_names__"] = tuple(name for name in namespace.get("__all__", notes) if name in notes)
    namespace["__getattr__"] = load
    namespace.setdefault("__dir__", names)


class LazyPackages:
    """A finder on ``sys.meta_path``; see :func:`install`."""

    def __init__(self, packages: Mapping[str, Collection[str]]) -> None:
        self.packages = dict(packages)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """What the ordinary finder finds, with a loader that waits; None for what is not in these packages."""
        root = name.partition(".")[0]
        if root not in self.packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
            spec.loader = _LazyLoader(name, spec.loader.path, self.packages[root] if name == root else ())
        return spec


def install(packages: Mapping[str, Collection[str]]) -> None:
    """Load these top-level packages, and those within them, name by name from now on.

    The values are the submodules whose names a package's own ``__init__``, which does more than import, can do
    without, such as ``lib.bedrock``. Installed a second time, as within the workflow sandbox, it does nothing.
    """
    if any(type(finder).__name__ == LazyPackages.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(sys.meta_path.index(PathFinder), LazyPackages(packages))

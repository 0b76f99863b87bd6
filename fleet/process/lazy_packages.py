"""Loads packages that only re-export names lazily, one name at a time.

The SDKs import thousands of modules so that every name is available at the top of a package; a process uses a few
dozen of them. For the packages passed to :func:`install`, an ``__init__`` that only imports names is not executed:
each name is imported when it is first used (PEP 562), and is the same object as without this module. An
``__init__`` that does anything else is executed, except for the imports listed as ``deferred``. Code that this
module does not understand, for example in another version of an SDK, is executed unchanged.

To find out what an ``__init__`` does, its code is run once with an ``__import__`` that only records, and with no
other builtins.
"""

import builtins
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn


class _Noted:
    """A name whose import was recorded. Code may bind it and set its ``__module__``, as packages do with names
    that they re-export. Code that does anything else with it is not a re-export."""

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
    """Stands for a module in an import statement, so that names can be taken from it."""

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
    """Replaces ``__import__`` and records the import."""
    if not names or "*" in names:
        raise ImportError("not an import of names")
    return _NotedModule(name, level, names)


def _is_constant(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, str | int | float)


def _bindings(code: CodeType, module: str) -> dict[str, object] | None:
    """What a module would bind: constants and recorded names; None if the module does more than that."""
    if code.co_exceptiontable:  # it has a try or with block
        return None
    found: dict[str, object] = {"__builtins__": {"__import__": _take_note}, "__name__": module}
    try:
        exec(code, found)
    except Exception:
        return None
    del found["__builtins__"], found["__name__"]
    understood = all(isinstance(value, _Noted) or _is_constant(value) for value in found.values())
    return found if understood else None


def _submodules(folder: Path) -> frozenset[str]:
    return frozenset(entry.name.partition(".")[0] for entry in folder.iterdir())


def _notes_in(bindings: Mapping[str, object]) -> dict[str, _Noted]:
    return {name: value for name, value in bindings.items() if isinstance(value, _Noted)}


def _hidden(notes: Mapping[str, _Noted], submodules: Collection[str]) -> bool:
    """Whether a name is also the name of a submodule. Importing the submodule would then replace the name."""
    return any(name in submodules and (note.module or note.name != name) for name, note in notes.items())


class _LazyLoader(SourceFileLoader):
    """Loads a package whose names can be imported later."""

    def __init__(self, name: str, path: str, deferred: Collection[str]) -> None:
        super().__init__(name, path)
        self._deferred = deferred
        self._executing = False

    def exec_module(self, module: ModuleType) -> None:
        """Record what the ``__init__`` imports, or execute it."""
        code = self.get_code(module.__name__)
        if code is None:
            raise ImportError(f"no code for {module.__name__}", name=module.__name__)
        submodules = _submodules(Path(self.path).parent)
        bindings = _bindings(code, module.__name__)
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
        """Execute the ``__init__`` except for the deferred imports; returns the recorded names of those."""
        namespace, before = module.__dict__, dict(module.__dict__)
        if self._deferred:
            namespace["__builtins__"] = vars(builtins) | {"__import__": self._import_or_note}
            self._executing = True
            try:
                exec(code, namespace)
            except (TypeError, AttributeError):  # a deferred name is used
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
        """Replaces ``__import__``: records deferred imports and executes all others."""
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
        # Uses __import__, which Temporal's workflow sandbox replaces, so that the sandbox does not get a second
        # copy of a module.
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
            if name == "__all__":  # without __all__ takes whatever is bound
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
        """The ordinary finder's result with a lazy loader; None for a module outside these packages."""
        root = name.partition(".")[0]
        if root not in self.packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
            spec.loader = _LazyLoader(name, spec.loader.path, self.packages.get(name, ()))
        return spec


def install(packages: Mapping[str, Collection[str]]) -> None:
    """Load these top-level packages and their subpackages lazily from now on.

    The values are the submodules, such as ``lib.bedrock``, that a package's own ``__init__`` imports names from
    but can do without while it is executed. A subpackage that has such submodules of its own is a key of its own.
    A second call, for example within the workflow sandbox, does nothing.
    """
    if any(type(finder).__name__ == LazyPackages.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(sys.meta_path.index(PathFinder), LazyPackages(packages))

"""A folder is a registry: the modules of a package are its entries, found by file name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

SHOWN = 10  # names in a message, where there are more than twice as many


def names(package: str) -> list[str]:
    """Names of the public modules in `package` (files that start with `_` are shared parts)."""
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def entry(package: str, name: str) -> ModuleType:
    """The module called `name` in `package`; `ValueError` with the list of names if there is none."""
    known = names(package)
    if name not in known:
        raise ValueError(unknown(package.rsplit(".", 1)[-1].rstrip("s"), name, known))
    return importlib.import_module(f"{package}.{name}")


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line that names what was asked for, the nearest known name and all known names, or of many the nearest."""
    near = difflib.get_close_matches(name, known, SHOWN, 0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(known) <= 2 * SHOWN:
        return f"no {kind} called {name!r}.{hint} Known: {', '.join(known)}"
    some = near or known[:SHOWN]
    return f"no {kind} called {name!r}.{hint} Known: {', '.join(some)} and {len(known) - len(some)} more"

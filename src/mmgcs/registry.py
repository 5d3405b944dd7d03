"""Find implementations by the names that recipes, options and bundles use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Generic, TypeVar

from mmgcs.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Map names to implementations. The error for an unknown name lists the known ones.

    >>> shapes: Registry[type] = Registry("shape")
    >>> @shapes.register("circle")
    ... class Circle: ...
    >>> shapes["circle"] is Circle
    True
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._items: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Return a decorator that registers an object under each of `names`."""

        def add(item: T) -> T:
            for name in names:
                if name in self._items:
                    raise ValueError(f"{self.what} {name!r} is registered twice")
                self._items[name] = item
            return item

        return add

    def register_plugins(self, group: str) -> None:
        """Register what other packages offer in a group of entry points, by their names; a broken one only warns."""
        from importlib.metadata import entry_points

        for plugin in entry_points(group=group):
            try:
                item: T = plugin.load()
            except Exception as error:  # a broken plugin must not break the others
                warnings.warn(f"the plugin {plugin.name!r} of {group} could not be loaded: {error}", stacklevel=3)
                continue
            if plugin.name not in self:  # importing it may have registered it
                self.register(plugin.name)(item)

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise UsageError(f"there is no {self.what} {name!r}; known: {', '.join(sorted(self._items))}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))


def import_modules(package: str) -> None:
    """Import every module of a package, so that each registers its implementations."""
    import pkgutil

    for module in pkgutil.iter_modules(sys.modules[package].__path__, f"{package}."):
        import_module(module.name)


def lazy_exports(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` (PEP 562), which imports a module when one of its names is first used.

    Args:
        package: the package's name.
        modules: the names that each of its modules exports.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{places[name]}"), name)

    return load

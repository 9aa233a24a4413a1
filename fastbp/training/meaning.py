"""What a setting means: bytes that are equal where two settings do the same, and else are not.

Settings may be functions and objects of the user's, which name the rest of his program.  What is
read of them:

- functions: their code, defaults, closure and attributes, and what their code names of the module
  around them, helpers and their helpers included; of a module of the user's that it names, what
  it names there;
- objects: their class and all that they hold, lists included; classes: methods and attributes;
- functions and classes of installed libraries, and of fastbp: their names, and the code of those
  that are made while they run, for their globals are taken not to change;
- files, locks and others that hold nothing readable: their class.

What a function finds in other ways (a file, `globals()`, an import within) is not seen.  What is
nested too deeply, or too large, or cannot be read is like nothing else, not even itself.
"""

import copyreg
import dis
import functools
import hashlib
import os
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType

import numpy as np

from fastbp.descriptions import Description, is_own

PLAIN = (bool, int, float, complex, str, bytes, type(None))
DEEPEST = 60  # things within things; each takes some frames of Python's stack
MOST = 20_000  # functions, objects and containers, 0.1 s
LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
PACKAGES = ("site-packages", "dist-packages")
# Of a class: what says nothing of what it does.
SKIPPED = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__orig_bases__", "__parameters__", "__slotnames__", "_abc_impl",
}  # fmt: skip


def describe(value):
    """Return a setting as plain values: equal ones where two settings mean the same."""
    try:
        return _Reader().read(value)
    except Exception:  # objects raise what they like, and other threads may change them meanwhile
        return os.urandom(16)


def digest(*parts):
    """Return 16 bytes for plain values."""
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=16).digest()


class _Reader:
    """Walks through what a setting holds, through each thing once."""

    def __init__(self):
        self.known = {}  # by id: the thing, kept so that no other one gets its id, and its digest
        self.above = {}  # by id: depth of the things around the present one

    def read(self, value):
        """Return what stands for a value: itself, if it is plain, or a digest."""
        if type(value) in PLAIN:
            return value
        if isinstance(value, np.generic):
            item = value.item()
            value = (value.dtype.str, value.tobytes()) if isinstance(item, np.generic) else item
        if isinstance(value, PLAIN):
            return value
        value = getattr(value, "py_func", value)  # of a function that Numba has compiled
        key, depth = id(value), len(self.above)
        if key in self.known:
            return self.known[key][1]
        if key in self.above:  # a function that calls itself, a list that holds itself
            return "above", depth - self.above[key]
        if depth > DEEPEST or len(self.known) > MOST:
            return os.urandom(16)
        self.above[key] = depth
        found = digest(self._take_apart(value))
        del self.above[key]
        self.known[key] = value, found
        return found

    def _take_apart(self, value):
        """Return the parts of a thing, which are read."""
        kind = type(value)
        if isinstance(value, Description):  # its settings, and nothing else
            return _by_names(value) or (self.read(kind), self._held_by(value))
        if isinstance(value, np.ndarray):
            plain = not value.dtype.hasobject
            content = hashlib.blake2b(value.tobytes()).digest() if plain else list(value.flat)
            return value.shape, str(value.dtype), self.read(content), self._held_by(value)
        if isinstance(value, list | tuple | deque):
            return self._kind_of(value), list(map(self.read, value)), self._held_by(value)
        if isinstance(value, set | frozenset):
            found = sorted(map(repr, map(self.read, value)))
            return self._kind_of(value), found, self._held_by(value)
        if isinstance(value, dict):
            found = [(self.read(key), self.read(item)) for key, item in value.items()]
            return self._kind_of(value), found, self._held_by(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return self.read(value.__func__), self.read(value.__self__)
        if isinstance(value, functools.partial):
            inside = [value.func, value.args, value.keywords]
            return self.read(kind), list(map(self.read, inside)), self._held_by(value)
        if isinstance(value, property):
            return list(map(self.read, (value.fget, value.fset, value.fdel)))
        if isinstance(value, ModuleType):
            return ("module", value.__name__)
        if isinstance(value, type):
            return self._class(value)
        return self._object(value)

    def _kind_of(self, container):
        """Return what stands for the class of a container; a sequence is one."""
        kind = type(container)
        return "sequence" if kind in (list, tuple) else self.read(kind)

    def _held_by(self, value, slots=()):
        """Read the attributes of a thing, in the order of their names."""
        named = getattr(value, "__dict__", None) or {}
        if slots:
            named = named | {name: getattr(value, name) for name in slots if hasattr(value, name)}
        return [(name, self.read(named[name])) for name in sorted(named)]

    def _object(self, value):
        """Take an object apart, in the way that pickle does where a library says how."""
        kind = type(value)
        name = _name_of(value) if hasattr(value, "__name__") else None
        # of a cache around a function; of a ufunc that Numba made
        behind = [getattr(value, name, None) for name in ("__wrapped__", "_dispatcher")]
        parts = [self.read(kind), name, *map(self.read, behind)]
        reduce = copyreg.dispatch_table.get(kind)
        is_simple = kind.__reduce_ex__ is object.__reduce_ex__ and (
            kind.__reduce__ is object.__reduce__ and not reduce
        )
        slots = copyreg._slotnames(kind)
        if hasattr(value, "__dict__") and (is_simple or not is_library(kind.__module__)):
            return parts, self._held_by(value, slots)
        try:
            found = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # a lock, a file, a generator
            return parts, self._held_by(value, slots)
        if not isinstance(found, str):
            found = [list(part) if isinstance(part, Iterator) else part for part in found]
        return parts, self.read(found)

    def _class(self, kind):
        """Return a class by what it does; one of a library by its name."""
        if is_library(kind.__module__):
            return _name_of(kind)
        own = {name: item for name, item in vars(kind).items() if name not in SKIPPED}
        bases = list(map(self.read, kind.__bases__))
        return _name_of(kind), bases, [(name, self.read(own[name])) for name in sorted(own)]

    def _function(self, function):
        """Return a function's code and what it brings with it; ours by name, for they stay."""
        around = function.__globals__
        module = around.get("__name__")
        if str(module).startswith("fastbp.") or _is_of_library(function):
            return _name_of(function)
        code = function.__code__
        closure = []
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                closure.append((name, self.read(cell.cell_contents)))
            except ValueError:  # it is still empty
                closure.append((name,))
        brings = [function.__defaults__, function.__kwdefaults__]
        brings = [*map(self.read, brings), closure, self._held_by(function)]
        if not is_library(module):
            wanted, named = _names_in(code)
            brings += [
                (name, self._named_by(around[name], named)) for name in wanted if name in around
            ]
        return self.read(code), brings

    def _named_by(self, value, names, depth=0):
        """Read what code finds in its module; of another module, what it names there."""
        if not isinstance(value, ModuleType):
            return self.read(value)
        inside = []
        if not is_library(value.__name__) and depth < DEEPEST:
            own = vars(value)
            inside = [
                (name, self._named_by(own[name], names - {name}, depth + 1))
                for name in sorted(names.intersection(own))
            ]
        return value.__name__, inside

    def _code(self, code):
        """Return what code does, without the place where it was written."""
        n_arguments = code.co_argcount + code.co_kwonlyargcount
        constants = list(map(self.read, code.co_consts))
        return code.co_code, code.co_names, code.co_varnames[:n_arguments], constants


def _by_names(description):
    """Return a description by the names of fastbp's class and formulas; None if others are in it.

    A shorter way to what reading it would tell: each call of `partial_fit` asks for it.
    """
    if not is_own(type(description)):
        return None
    settings = []
    for name, item in vars(description).items():
        parts = item if type(item) is tuple else (item,)
        if type(item) is FunctionType and is_own(item):
            item = _name_of(item)
        elif not all(type(part) in PLAIN for part in parts):
            return None
        settings.append((name, item))
    return _name_of(type(description)), settings


@functools.lru_cache(maxsize=1024)
def _names_in(code):
    """Names that code looks up in its module, sorted; and all that it names, attributes included.

    Those of the functions within it are among them.
    """
    wanted = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    }
    named = set(code.co_names)
    for item in code.co_consts:
        if isinstance(item, CodeType):
            inner, inner_named = _names_in(item)
            wanted.update(inner)
            named |= inner_named
    return tuple(sorted(wanted)), frozenset(named)


def is_library(module):
    """Whether a module, by its name, is Python's, fastbp's or an installed one."""
    root = str(module).partition(".")[0]
    if root in ("fastbp", "__main__"):
        return root == "fastbp"
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # built in; or of a notebook, or made by `exec`
        return root in sys.stdlib_module_names
    return file.startswith(LIBRARIES) or any(part in file for part in PACKAGES)


def _is_of_library(function):
    """Whether a function is what an installed library has under its name."""
    module = function.__module__
    found = getattr(sys.modules.get(module), function.__qualname__, None)
    return found is function and is_library(module)


def _name_of(thing):
    return getattr(thing, "__module__", None), getattr(thing, "__qualname__", thing.__name__)

"""What a snapshot may say about a registered class, found by looking at the class itself.

The attributes of a class are its slots, its annotated names, and every name that a method of it stores (read from the
methods' bytecode, so nothing has to be listed twice). Those that ``__init__`` always stores, and the fields of a
dataclass, are *required*: a state without one is refused, unless the class has a class-level default of that name. So
an attribute added in a later version of prong gets such a default, and one that was dropped is listed in the class's
``_obsolete_`` (a tuple of names, ignored when read); old snapshots then still load.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import opcode
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MemberDescriptorType

from prong.cell.core.saved import BY_CLASS

_STORE_ATTR = opcode.opmap["STORE_ATTR"]
_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]
_RETURNS = frozenset(number for name, number in opcode.opmap.items() if name.startswith("RETURN_"))
_FORWARD_JUMPS = frozenset(n for n in opcode.hasjrel if "BACKWARD" not in opcode.opname[n])
_LOAD_FAST = frozenset(n for name, n in opcode.opmap.items() if name in ("LOAD_FAST", "LOAD_FAST_BORROW"))
_PAIRS = ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "STORE_FAST_LOAD_FAST")
_LOAD_FAST_PAIR = frozenset(n for name, n in opcode.opmap.items() if name in _PAIRS)
_PLAIN_MEMBERS = (MemberDescriptorType,)


@dataclass(frozen=True, slots=True)
class Schema:
    """One registered class as the codec sees it.

    Attributes:
        cls: the class. name: the name it is registered under.
        is_enum: members are saved by value; the remaining fields are empty.
        names: attributes that may be saved (each interned, mapped to itself). required: those that must be.
        skip: attributes that are never saved. obsolete: attributes read and ignored.
        slots: saved attributes that live in slots. has_dict: instances have a ``__dict__``.
        hashed: for classes hashed by value (frozen dataclasses) the fields that take part, else None.
        hashable: false for classes whose instances cannot be keys.
        after_load: the class wants to be told when everything is loaded.
    """

    cls: type
    name: str
    is_enum: bool = False
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    required: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    obsolete: frozenset[str] = frozenset()
    slots: tuple[str, ...] = ()
    has_dict: bool = False
    hashed: tuple[str, ...] | None = None
    hashable: bool = True
    after_load: bool = False


_KNOWN: dict[type, Schema] = {}


def schema_of(cls: type) -> Schema:
    """The schema of a registered class.

    Raises:
        TypeError: ``cls`` is not registered, or is of a kind that cannot be saved.
    """
    schema = _KNOWN.get(cls)
    if schema is None:
        schema = _KNOWN[cls] = _examine(cls)
    return schema


def _examine(cls: type) -> Schema:
    if cls not in BY_CLASS:
        raise TypeError(f"class {cls.__module__}.{cls.__qualname__} is not registered with @saved")
    name = BY_CLASS[cls][0]
    if issubclass(cls, enum.Enum):
        return Schema(cls, name, is_enum=True)
    if _layout(cls) is not object:
        raise TypeError(f"{cls.__qualname__} extends {_layout(cls).__qualname__}; only plain classes can be saved")
    bases = cls.__mro__[:-1]
    skip = frozenset().union(*(BY_CLASS[b][1] for b in bases if b in BY_CLASS))
    slots = {_mangled(b, s) for b in bases for s in _slots(b)} - skip
    declared = slots | _fields(cls) | {n for b in bases for n in _annotated(b)} | {n for b in bases for n in _stored(b)}
    names = {sys.intern(n): sys.intern(n) for n in sorted(declared - skip) if _is_data(cls, n)}
    required = (_always_stored(cls) | _fields(cls)) & names.keys()
    return Schema(
        cls,
        name,
        names=names,
        required=frozenset(n for n in required if not _has_default(cls, n)),
        skip=skip,
        obsolete=frozenset(getattr(cls, "_obsolete_", ())),
        slots=tuple(sorted(slots & names.keys())),
        has_dict=cls.__dictoffset__ != 0,
        hashed=_hashed(cls),
        hashable=callable(cls.__hash__),
        after_load=callable(getattr(cls, "after_load", None)),
    )


def _layout(cls: type) -> type:
    """The built-in class whose memory layout ``cls`` extends; ``object`` for plain classes."""
    for base in cls.__mro__:
        if not base.__flags__ & (1 << 9):  # Py_TPFLAGS_HEAPTYPE: made by a class statement
            return base
    return object


def _hashed(cls: type) -> tuple[str, ...] | None:
    """The fields that decide the hash of a value class; None for classes hashed by identity or not at all."""
    own: object = cls.__hash__
    if own is None or own is object.__hash__:
        return None
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__qualname__} has a __hash__ of its own; make it a frozen dataclass to save it")
    return tuple(f.name for f in dataclasses.fields(cls) if (f.compare if f.hash is None else f.hash))


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(s for s in slots if s not in ("__dict__", "__weakref__"))


def _mangled(cls: type, name: str) -> str:
    """Private name mangling (Python reference, "Identifiers")."""
    if name.startswith("__") and not name.endswith("__"):
        return f"_{cls.__name__.lstrip('_')}{name}"
    return name


def _fields(cls: type) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()


def _annotated(cls: type) -> Iterator[str]:
    """Annotated instance attributes; ClassVar ones are not part of an instance."""
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" not in str(annotation):
            yield _mangled(cls, name)


def _is_data(cls: type, name: str) -> bool:
    """Whether ``name`` may be an instance attribute: not special, and not a method or property of the class."""
    if name.startswith("__"):
        return False
    for base in cls.__mro__:
        if name in base.__dict__:
            value = base.__dict__[name]
            return isinstance(value, _PLAIN_MEMBERS) or not hasattr(type(value), "__get__")
    return True


def _has_default(cls: type, name: str) -> bool:
    return any(name in b.__dict__ and not isinstance(b.__dict__[name], _PLAIN_MEMBERS) for b in cls.__mro__)


def _stored(cls: type) -> set[str]:
    """Every attribute name that a function in the class body stores, on whatever object."""
    names: set[str] = set()
    for value in cls.__dict__.values():
        function = value.fset if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, FunctionType):
            code = function.__code__
            names.update(code.co_names[arg] for _, op, arg in _instructions(code) if op == _STORE_ATTR)
    return names


def _always_stored(cls: type) -> set[str]:
    """The attributes that ``__init__`` stores on self on every path, those of the base classes' it calls included."""
    names: set[str] = set()
    for base in cls.__mro__[:-1]:
        init = base.__dict__.get("__init__")
        if not isinstance(init, FunctionType):
            continue
        if not dataclasses.is_dataclass(base):
            names |= _unconditional(init.__code__)
        if "__init__" not in init.__code__.co_names:
            break
    return names


def _unconditional(code: CodeType) -> set[str]:
    """Names stored on the first argument that no forward jump skips and no earlier return prevents."""
    names: set[str] = set()
    jumped_to = 0
    on_self = False
    for offset, op, arg in _instructions(code):
        if op == _STORE_ATTR and on_self and offset >= jumped_to:
            names.add(code.co_names[arg])
        if op in _FORWARD_JUMPS:
            jumped_to = max(jumped_to, offset + 2 + 2 * arg)
        if op in _RETURNS:
            break
        on_self = (op in _LOAD_FAST and arg == 0) or (op in _LOAD_FAST_PAIR and arg & 15 == 0)
    return names


def _instructions(code: CodeType) -> Iterator[tuple[int, int, int]]:
    """(offset, opcode, argument) of each instruction; the inline caches after an instruction look like opcode 0."""
    data = code.co_code
    extended = 0
    for offset in range(0, len(data), 2):
        op, arg = data[offset], data[offset + 1] | extended
        if op == _EXTENDED_ARG:
            extended = arg << 8
            continue
        extended = 0
        if op:
            yield offset, op, arg

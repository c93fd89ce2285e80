"""An unpickler that cannot run code: all it makes is inert values.

Python's own unpickler imports the names in a file, calls them and sets attributes, and a single
operation can make its memo gigabytes large. Here a name stays a name and a call becomes a record
of the call, and the number of a file's operations bounds its cost. Our ``Vocabulary`` decides what
the names mean.
"""

import io
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from camreport.errors import ModelError

MAX_OPERATIONS = 1_000_000
"""Most operations of a pickle; torchvision's largest whole model has some 200,000."""

MAX_NUMBER_BYTES = 256
"""Most bytes of a whole number: enough for any seed, and quick to print."""

MAX_HASHED = 30_000
"""Most dictionary keys and set members that are not text: numbers can be chosen to collide."""

MAX_COPIED = 10_000_000
"""Most values and bytes that calls may copy from the memo."""

_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


@dataclass(frozen=True)
class Named:
    """The name of a class or function that a file asks for; it is never imported."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """The name with its module."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Made:
    """The recipe of an object in a file: the callable, its arguments and the object's state."""

    what: object
    args: tuple[object, ...]
    state: object = None


@dataclass
class Costs:
    """The cost of reading a pickle so far."""

    hashed: int = 0
    copied: int = 0

    def hash(self, keys: Iterable[object]) -> None:
        """Count new dictionary keys and set members.

        Raises:
            ValueError: one is not a plain value, or too many are not text.
        """
        for key in keys:
            if isinstance(key, str):
                continue
            parts = key if isinstance(key, tuple) else (key,)
            if not all(
                part is None or isinstance(part, str | bytes | int | float) for part in parts
            ):
                raise ValueError(f"a {type(key).__name__} as a key")
            self.hashed += 1
            if self.hashed > MAX_HASHED:
                raise ValueError(f"more than {MAX_HASHED:,} keys that are not text")

    def copy(self, count: int) -> None:
        """Count values or bytes that a call copies.

        Raises:
            ValueError: there are too many.
        """
        self.copied += count
        if self.copied > MAX_COPIED:
            raise ValueError(f"more than {MAX_COPIED:,} copied values")


class Vocabulary(Protocol):
    """The meaning of the names, calls and storages of a pickle."""

    costs: Costs

    def named(self, name: Named) -> object:
        """Return the value of a class or function."""

    def made(self, what: object, args: tuple[object, ...]) -> object:
        """Return the value of a call's result."""

    def stored(self, persistent: object) -> object:
        """Return the value outside the pickle with a persistent id."""


def read_pickle(stream: io.BytesIO, vocabulary: Vocabulary) -> object:
    """Return the content of a pickle; the stream ends up after it.

    Raises:
        ModelError: damaged, larger than any model's, or with operations that PyTorch never writes.
    """
    machine = _Machine(vocabulary)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if operation.name == "STOP":
                return machine.pop()
            if count >= MAX_OPERATIONS:
                raise ModelError(
                    f"refused: its pickle has more than {MAX_OPERATIONS:,} operations."
                )
            if operation.name not in _ACTIONS:
                raise ModelError(
                    f"refused: its pickle uses the operation {operation.name}, which PyTorch does "
                    "not write. Save the weights with torch.save(model.state_dict(), file)."
                )
            _ACTIONS[operation.name](machine, argument)
    except (ValueError, LookupError, TypeError, OverflowError, RuntimeError) as error:
        raise ModelError(damage(error)) from error
    raise ModelError(damage("its pickle has no end"))


def damage(reason: object) -> str:
    """Return an error text on a file that cannot be read to its end."""
    line = " ".join(str(reason).split()) or type(reason).__name__
    return f"damaged or truncated ({line[:200]}). Download or copy it again."


@dataclass
class _Machine:
    """The stack of an unpickler, the stacks below its marks, and its memo."""

    vocabulary: Vocabulary
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop(self) -> Any:
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """Remove and return the values above the last mark, and remove the mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def drop_to_mark(self) -> None:
        self.since_mark()

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def number(self, value: int) -> None:
        if value.bit_length() > 8 * MAX_NUMBER_BYTES:
            raise ValueError(f"a number of more than {MAX_NUMBER_BYTES} bytes")
        self.stack.append(value)

    def pack(self, count: int) -> None:
        """Replace the last ``count`` values by a tuple of them."""
        if len(self.stack) < count:
            raise ValueError("a tuple of more values than there are")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, items: list[Any]) -> None:
        """Add items to the list on top; the recipe of an object ignores them."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Made):
            raise ValueError(f"items for a {type(target).__name__}")

    def set_items(self, flat: list[Any]) -> None:
        """Add alternating keys and values to the dictionary on top."""
        target, keys, values = self.stack[-1], flat[::2], flat[1::2]
        if len(keys) != len(values):
            raise ValueError("a key without a value")
        if isinstance(target, dict):
            self.vocabulary.costs.hash(keys)
            target.update(zip(keys, values, strict=True))
        elif not isinstance(target, Made):
            raise ValueError(f"keys for a {type(target).__name__}")

    def add_to_set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"members for a {type(target).__name__}")
        self.vocabulary.costs.hash(items)
        target.update(items)

    def freeze(self, items: list[Any]) -> None:
        self.vocabulary.costs.hash(items)
        self.stack.append(frozenset(items))

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is not text")
        named = Named(_OLD_NAMES.get(module, module), name)
        self.stack.append(self.vocabulary.named(named))

    def call(self, args: object, what: object) -> None:
        if not isinstance(args, tuple):
            raise ValueError("a call without arguments")
        self.stack.append(self.vocabulary.made(what, args))

    def build(self, state: object) -> None:
        """Keep an object's state; a dictionary's (the versions of a state dict) is dropped."""
        target = self.stack[-1]
        if isinstance(target, Made):
            target.state = state
        elif not isinstance(target, dict):
            raise ValueError(f"a state for a {type(target).__name__}")

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]


_Action = Callable[[_Machine, Any], None]


def _push(machine: _Machine, argument: object) -> None:
    machine.stack.append(argument)


def _constant(make: Callable[[], object]) -> _Action:
    return lambda machine, _: machine.stack.append(make())


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _dictionary(machine: _Machine, _: object) -> None:
    flat = machine.since_mark()
    machine.stack.append({})
    machine.set_items(flat)


_ACTIONS: dict[str, _Action] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.number
    ),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_SET": _constant(set),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.drop_to_mark(),
    "LIST": lambda machine, _: _push(machine, machine.since_mark()),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.pack(1),
    "TUPLE2": lambda machine, _: machine.pack(2),
    "TUPLE3": lambda machine, _: machine.pack(3),
    "DICT": _dictionary,
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_to_set(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.freeze(machine.since_mark()),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.call(machine.pop(), machine.pop()),
    "NEWOBJ": lambda machine, _: machine.call(machine.pop(), machine.pop()),
    "BUILD": lambda machine, _: machine.build(machine.pop()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda machine, key: _push(machine, machine.memo[key])
    ),
    "BINPERSID": lambda machine, _: _push(machine, machine.vocabulary.stored(machine.pop())),
}

"""Reads a pickle as data: nothing is imported, called or executed.

Python's `pickle` runs whatever functions a file names. A checkpoint needs containers, numbers, strings and
tensors only, so the few opcodes that spell those are interpreted here over plain values. A name in the file
stays a name; the caller's table gives its meaning, and a name outside the table is refused.
"""

import io
import pickletools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any


class PickleRefused(Exception):
    """The pickle is damaged or asks for more than data; the message is one line without the file's name."""


@dataclass(frozen=True)
class Name:
    """A global that the pickle names, such as `torch.FloatStorage`."""

    name: str


def read_pickle(
    data: bytes,
    constructors: Mapping[str, Callable[..., object]],
    constants: Collection[str],
    persistent: Callable[[object], object],
) -> object:
    """Returns the pickled value: dicts, lists, tuples, strings, numbers, None and the caller's objects.

    Args:
        data: the pickle.
        constructors: function for a call of a name, by dotted name.
        constants: names that may stand as values (they come out as `Name`).
        persistent: makes an object from its persistent id.

    Raises:
        PickleRefused: a name or an operation that is not allowed, or damaged data.
    """
    return _Machine(data, constructors, constants, persistent).run()


_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


class _Machine:
    """The stack and memo of the pickle machine. Containers are built and never walked, so depth costs nothing."""

    def __init__(
        self,
        data: bytes,
        constructors: Mapping[str, Callable[..., object]],
        constants: Collection[str],
        persistent: Callable[[object], object],
    ):
        self.stream = io.BytesIO(data)
        self.constructors = constructors
        self.constants = constants
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        try:
            while code := self.stream.read(1):
                if code == b".":
                    return self.stack.pop()
                self.step(_OPCODES[code])
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise PickleRefused(f"its pickle is damaged ({_one_line(error)})") from error
        raise PickleRefused("its pickle is damaged (it has no end)")

    def step(self, opcode: pickletools.OpcodeInfo) -> None:
        """Carries out one opcode; its argument is decoded only if the opcode is allowed."""

        def argument() -> Any:
            assert opcode.arg is not None
            return opcode.arg.reader(self.stream)

        stack = self.stack
        match opcode.name:
            case "PROTO" | "FRAME":
                argument()
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument())
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.pop(int(opcode.name[-1]))))
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "TUPLE":
                items = self.pop_mark()
                self.stack.append(tuple(items))
            case "APPEND":
                self.extend(self.pop(1))
            case "APPENDS":
                self.extend(self.pop_mark())
            case "SETITEM":
                self.update(self.pop(2))
            case "SETITEMS":
                self.update(self.pop_mark())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument()] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument()])
            case "GLOBAL":
                stack.append(self.name(self.line(), self.line()))
            case "STACK_GLOBAL":
                stack.append(self.name(*self.pop(2)))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case "REDUCE":
                stack.append(self.construct(*self.pop(2)))
            case "BUILD":
                self.build()
            case name:
                raise PickleRefused(f"its pickle holds the operation {name}, which is not plain data")

    def line(self) -> str:
        text = self.stream.readline()
        if not text.endswith(b"\n"):
            raise ValueError("a name without an end")
        return text[:-1].decode()

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError("too few values on the stack")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def pop_mark(self) -> list[Any]:
        taken = self.stack
        self.stack = self.below.pop()
        return taken

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items appended to what is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise TypeError("items set in what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a deep tuple would overflow the C stack.
            if not isinstance(key, str | int | float | None):
                raise TypeError("a dict key that is no string or number")
            self.stack[-1][key] = value

    def name(self, module: object, name: object) -> Name:
        dotted = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "an object"
        if dotted not in self.constructors and dotted not in self.constants:
            raise PickleRefused(f"its pickle names {_one_line(dotted)}, which is not plain data or a tensor")
        return Name(dotted)

    def construct(self, target: object, arguments: object) -> object:
        if not isinstance(target, Name) or target.name not in self.constructors:
            raise TypeError("a call of what is no constructor")
        if type(arguments) is not tuple:
            raise TypeError("a call without a tuple of arguments")
        return self.constructors[target.name](*arguments)

    def build(self) -> None:
        """PyTorch sets an attribute `_metadata` on its OrderedDict; attributes mean nothing here and are dropped."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise TypeError("attributes set on what is no dict")


def _one_line(value: object) -> str:
    text = " ".join(str(value).split())[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)

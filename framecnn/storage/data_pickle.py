"""Reading of pickles that hold data only, by a machine of its own that imports nothing and runs no code of a file.

It knows the opcodes of protocol 2 that tensors need and refuses all others. A name in a pickle is looked up in a table
of the caller, never imported. Nothing walks into the values, so shared and circular ones cost no more than their bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from framecnn.errors import FormatError
from framecnn.text import shortened

__all__ = ["LARGEST_PICKLE", "Name", "read_pickle"]

LARGEST_PICKLE = 4 * 2**20  # bytes; a tensor takes about 160
PROTOCOL = 2
MOST_ARGUMENTS = 8  # a tuple may occur as often as the pickle has room: no step may take as long as a value is large
SIZES = {b"K": 1, b"M": 2, b"J": 4, b"q": 1, b"h": 1, b"r": 4, b"j": 4, b"X": 4, b"\x8a": 1, b"\x80": 1}
"""Bytes of the number that follows an opcode."""


@dataclass(frozen=True)
class Name:
    """A name in a pickle, such as ``torch.FloatStorage``: one that the caller knows."""

    text: str


Functions = Mapping[str, Callable[..., Any] | None]


def read_pickle(content: memoryview, start: int, names: Functions, reference: Callable[[Any], Any]) -> tuple[Any, int]:
    """Return the value of the pickle that begins at a byte, and the byte behind it.

    Parameters
    ----------
    content : memoryview of bytes
    start : int
    names : mapping of str to callable or None
        The names that may occur; the function of a name is what the pickle may call, None a name that is only data.
        Functions receive unchecked arguments and raise FormatError for wrong ones.
    reference : callable
        Returns the value for a persistent id; raises FormatError for a wrong one.

    Returns
    -------
    value : None, bool, int, str, tuple, list, dict, Name, or what the functions returned
    end : int

    Raises
    ------
    FormatError
        If the pickle is damaged, has more than 4 MiB, or holds anything else.

    Examples
    --------
    >>> read_pickle(memoryview(b"\\x80\\x02K\\x01K\\x02\\x86."), 0, {}, lambda key: None)
    ((1, 2), 8)
    """
    machine = _Machine(content[start : start + LARGEST_PICKLE], names, reference)
    try:
        return machine.run(), start + machine.position
    except (IndexError, KeyError) as error:
        raise FormatError("expected a complete pickle, got a damaged one; copy the file again") from error


class _Machine:
    """A stack, the stacks below the open marks, and the memo."""

    def __init__(self, content: memoryview, names: Functions, reference: Callable[[Any], Any]):
        self.content, self.names, self.reference = content, names, reference
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.take(1)) != b".":
            if code not in OPCODES:
                raise FormatError(
                    f"expected a pickle of tensors as PyTorch writes it, got opcode {code!r} at byte "
                    f"{self.position - 1}, which tensors do not need; nothing was run"
                )
            number = int.from_bytes(self.take(SIZES[code]), "little", signed=code == b"J") if code in SIZES else 0
            OPCODES[code](self, number)
        return self.stack.pop()

    def take(self, size: int) -> bytes:
        found = self.content[self.position : self.position + size].tobytes()
        if len(found) < size:
            raise IndexError(size)
        self.position += size
        return found

    def line(self) -> str:
        text = bytearray()
        while (code := self.take(1)) != b"\n":
            text += code
        return text.decode("utf-8", "replace")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def protocol(self, number: int) -> None:
        if number != PROTOCOL:
            raise FormatError(f"expected a pickle of protocol {PROTOCOL}, got {number}; torch.save writes {PROTOCOL}")

    def mark(self, _: int) -> None:
        self.below.append(self.stack)
        self.stack = []

    def integer(self, size: int) -> None:
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def text(self, size: int) -> None:
        self.push(self.take(size).decode("utf-8", "replace"))

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def name(self, _: int) -> None:
        text = f"{self.line()}.{self.line()}"
        if text not in self.names:
            raise FormatError(
                f"expected a pickle of tensors only, got the name {shortened(ascii(text))}; nothing was run, and the "
                "file may be malicious"
            )
        self.push(Name(text))

    def call(self, _: int) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        known = self.names[function.text] if type(function) is Name else None
        if known is None or type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
            raise FormatError("expected calls of functions that rebuild tensors, got another one; nothing was run")
        self.push(known(*arguments))

    def refer(self, _: int) -> None:
        self.push(self.reference(self.stack.pop()))

    def set_state(self, _: int) -> None:
        """Drop the version numbers that PyTorch attaches to a state dict."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not dict or type(state) is not dict or len(state) > 1 or set(state) - {"_metadata"}:
            raise FormatError("expected no state of objects other than _metadata, got another one; nothing was run")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2 or not all(type(key) is str for key in items[::2]):
            raise FormatError("expected items of a dict with keys of text, got others; save the state dict only")
        target.update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise FormatError("expected items of a list, got others; save the state dict only")
        self.stack[-1].extend(items)

    def remember(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        self.push(self.memo[number])


OPCODES: dict[bytes, Callable[[_Machine, int], None]] = {
    b"\x80": _Machine.protocol,
    b"(": _Machine.mark,
    b"N": lambda machine, _: machine.push(None),
    b"\x88": lambda machine, _: machine.push(True),
    b"\x89": lambda machine, _: machine.push(False),
    b"K": _Machine.push,
    b"M": _Machine.push,
    b"J": _Machine.push,
    b"\x8a": _Machine.integer,
    b"X": _Machine.text,
    b")": lambda machine, _: machine.push(()),
    b"\x85": lambda machine, _: machine.tuple_of(1),
    b"\x86": lambda machine, _: machine.tuple_of(2),
    b"\x87": lambda machine, _: machine.tuple_of(3),
    b"t": lambda machine, _: machine.push(tuple(machine.pop_marked())),
    b"]": lambda machine, _: machine.push([]),
    b"a": lambda machine, _: machine.append([machine.stack.pop()]),
    b"e": lambda machine, _: machine.append(machine.pop_marked()),
    b"}": lambda machine, _: machine.push({}),
    b"s": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    b"u": lambda machine, _: machine.set_items(machine.pop_marked()),
    b"q": _Machine.remember,
    b"r": _Machine.remember,
    b"h": _Machine.recall,
    b"j": _Machine.recall,
    b"c": _Machine.name,
    b"R": _Machine.call,
    b"Q": _Machine.refer,
    b"b": _Machine.set_state,
}
"""What the machine does at an opcode, by its byte; the number is the one that follows it, or 0."""

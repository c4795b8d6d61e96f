"""The places where a compiled kernel's threads may race through memory, read off its TTGIR.

The threads of a program share what they store in global memory only across a barrier: a value whose
layout is replicated over the warps is stored by one warp, while all of them load it. So, with no
barrier between,

    a load after a store of the same buffer may find the old value in some warps,
    a store after a load may overtake a slower warp's load.

Both are reported, except of the buffers in `APART`, which says why. Everything else that threads
share (reductions, layout conversions) goes through shared memory, where the compiler sets its own
barriers. And a scalar is one value in all threads unless a load that it comes from raced, so that
no other condition can part the warps at a barrier.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

# (kernel, buffer) where no thread's load concerns what another one stores.
APART = {
    # A level of a row is loaded before it is stored, by the threads that store that very value.
    ("screen_kernel", "codes"),
    # Loaded are the levels before the one that is stored.
    ("named_kernel", "codes"),
}

_LOADS = ("tt.load", "ttg.async_copy_global_to_local")

# Operations that give a pointer of the buffer of these operands.
_ALIAS = {
    "tt.addptr": slice(0, 1),
    "tt.splat": slice(0, 1),
    "tt.broadcast": slice(0, 1),
    "tt.expand_dims": slice(0, 1),
    "tt.bitcast": slice(0, 1),
    "ttg.convert_layout": slice(0, 1),
    "arith.select": slice(1, 3),
}
_RESULT = re.compile(r"(%[\w#:]+)(?::\d+)? = \"?([\w.]+)\"?(.*)")
_VALUE = re.compile(r"%\w+")
_CARRIED = re.compile(r"(%\w+) = (%\w+)")


@dataclass
class _Block:
    """A region of the program: operations as text, and regions within, in order."""

    head: str
    parts: list[str | _Block] = field(default_factory=list)


@dataclass(frozen=True)
class _State:
    """Buffers stored and loaded since the last barrier."""

    stored: frozenset[str] = frozenset()
    loaded: frozenset[str] = frozenset()

    def join(self, other: _State) -> _State:
        return _State(self.stored | other.stored, self.loaded | other.loaded)


def races(ttgir: str) -> list[str]:
    """One line for each buffer of the kernel that threads may race on."""
    found: dict[str, None] = {}
    for function in _functions(ttgir):
        name = re.search(r"@(\w+)", function.head)
        _Walk(name[1] if name else "", function, found)
    return list(found)


class _Walk:
    """Follows one function through its regions; a loop's body comes twice."""

    def __init__(self, kernel: str, function: _Block, found: dict[str, None]) -> None:
        self._kernel, self._found = kernel, found
        self._names: dict[str, str] = {}
        arguments = re.findall(r"%(\w+): [^,]*? loc\(\"(\w+)\"", function.head)
        named = Counter(location for _, location in arguments)
        for value, location in arguments:  # the parts of a tuple have one name
            self._names[f"%{value}"] = location if named[location] == 1 else value
        self._sources: dict[str, list[str]] = {}
        self._run(function, _State())

    def _run(self, block: _Block, state: _State) -> _State:
        entry = state
        for part in block.parts:
            if isinstance(part, str):
                state = self._operation(part, state)
                continue
            for inner, outer in _CARRIED.findall(part.head):
                self._sources[inner] = [outer]
            if part.head.startswith("} else"):
                # The other branch starts where the first one did.
                state = state.join(self._run(part, entry))
            elif "scf.if" in part.head:
                entry = state
                state = state.join(self._run(part, state))
            else:
                once = self._run(part, state)
                state = state.join(self._run(part, state.join(once)))
        return state

    def _operation(self, text: str, state: _State) -> _State:
        if re.search(r"\b(?:gpu|ttg)\.(?:local_)?barrier\b", text):
            return _State()
        result = _RESULT.match(text)
        if result:
            taken = _ALIAS.get(result[2], slice(0))
            self._sources[result[1]] = _VALUE.findall(result[3])[taken]
        operation = result[2] if result else text.split(" ", 1)[0]
        operands = _VALUE.findall(result[3] if result else text)
        if operation in _LOADS:
            for buffer in self._roots(operands[0]):
                if buffer in state.stored:
                    self._report(buffer, "loaded after a store")
                state = _State(state.stored, state.loaded | {buffer})
        elif operation == "tt.store":
            for buffer in self._roots(operands[0]):
                if buffer in state.loaded:
                    self._report(buffer, "stored after a load")
                state = _State(state.stored | {buffer}, state.loaded)
        return state

    def _report(self, buffer: str, what: str) -> None:
        if (self._kernel, buffer) not in APART:
            self._found[f"{self._kernel}: {buffer} is {what}, with no barrier between"] = None

    def _roots(self, value: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """The kernel's arguments that a pointer may come from."""
        if value in self._names:
            yield self._names[value]
        elif value not in seen:
            for source in self._sources.get(value, ()):
                yield from self._roots(source, seen | {value})


def _functions(ttgir: str) -> Iterator[_Block]:
    for block in _parse(ttgir).parts:
        if isinstance(block, _Block) and "module" in block.head:
            yield from (part for part in block.parts if isinstance(part, _Block))


def _parse(ttgir: str) -> _Block:
    """The text as nested regions."""
    open_ = [_Block("")]
    for line in ttgir.splitlines():
        text = line.strip()
        if text.startswith("#"):
            continue
        if text.startswith("}"):
            open_.pop()
        if re.sub(r"loc\(.*\)$", "", text).rstrip().endswith("{"):
            block = _Block(text)
            open_[-1].parts.append(block)
            open_.append(block)
        elif not text.startswith("}"):
            open_[-1].parts.append(text)
    return open_[0]

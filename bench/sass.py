"""Instructions of a compiled kernel by pipe, loop by loop, read off its disassembly (SASS)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_PIPES = {
    "tensor": "HMMA HGMMA IMMA QGMMA DMMA UTCHMMA",
    "fma": "FFMA FFMA2 FMUL FMUL2 FADD FADD2 IMAD HFMA2 HMUL2 HADD2",
    "fp64": "DFMA DADD DMUL DSETP DMNMX",
    "xu": "MUFU F2F F2I I2F I2FP POPC FLO BREV",
    "memory": "LDG STG LDS STS LDSM STSM LDGSTS SHFL ATOM ATOMG ATOMS RED REDG REDUX LDL STL LD ST "
    "LDTM STTM",
    "control": "BRA BAR EXIT BSSY BSYNC WARPSYNC DEPBAR LDGDEPBAR SYNCS NOP CALL RET YIELD MEMBAR "
    "ERRBAR CCTL BREAK WARPGROUP FENCE ELECT VOTE VOTEU",
}
_PIPE = {opcode: pipe for pipe, opcodes in _PIPES.items() for opcode in opcodes.split()}
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", re.MULTILINE)
_PREDICATE = re.compile(r"^@!?U?P\w+\s+")
_TARGET = re.compile(r"\bBRA\b.*?(0x[0-9a-f]+)")
# A backward branch over fewer instructions than this, none of a tensor core, waits for something.
_WAIT = 12


@dataclass(frozen=True)
class Loop:
    """Instructions of one round of a loop, without those of the loops inside; by pipe."""

    depth: int  # 0: outside all loops
    pipes: dict[str, int]
    barriers: int  # for the whole program
    shared: int  # loads, stores and shuffles through shared memory

    @property
    def instructions(self) -> int:
        return sum(self.pipes.values())


def instructions(sass: str) -> list[tuple[int, str]]:
    """Address and text, without the predicate, of each instruction."""
    return [(int(at, 16), _PREDICATE.sub("", text)) for at, text in _LINE.findall(sass)]


def opcode(text: str) -> str:
    return text.split()[0].split(".")[0]


def pipe(text: str) -> str:
    """The pipe that executes an instruction; all that is in no list goes to the ALU."""
    name = opcode(text)
    if name in _PIPE:
        return _PIPE[name]
    if name.startswith("UTC"):
        return "tensor"
    return "uniform" if name.startswith(("U", "R2UR", "S2UR")) else "alu"


def hot_loops(sass: str) -> list[Loop]:
    """The loops around the tensor cores' innermost one, or around the longest innermost one: that
    loop first, then those around it, last what is outside them all."""
    code = instructions(sass)
    spans = []
    for at, text in code:
        found = _TARGET.search(text)
        if found and int(found[1], 16) < at:
            inside = [each for place, each in code if int(found[1], 16) <= place <= at]
            tensor = any(pipe(each) == "tensor" for each in inside)
            if tensor or len(inside) >= _WAIT:
                spans.append((int(found[1], 16), at, tensor))
    with_tensor = [span for span in spans if span[2]] or spans
    innermost = [
        (start, end)
        for start, end, _ in with_tensor
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b, _ in with_tensor)
    ]
    chain: list[tuple[int, int]] = []
    if innermost:
        hot = max(innermost, key=lambda span: span[1] - span[0])
        around = {(a, b) for a, b, _ in spans if a <= hot[0] and hot[1] <= b}
        chain = sorted(around, key=lambda span: span[1] - span[0])
    chain.append((code[0][0], code[-1][0]))
    loops = []
    inner = (1, 0)
    for number, (start, end) in enumerate(chain):
        own = [t for at, t in code if start <= at <= end and not inner[0] <= at <= inner[1]]
        own = [text for text in own if opcode(text) != "NOP"]
        shared = [text for text in own if opcode(text) in ("LDS", "STS", "SHFL", "LDSM", "STSM")]
        loops.append(
            Loop(
                depth=len(chain) - 1 - number,
                pipes=dict(sorted(Counter(map(pipe, own)).items())),
                barriers=sum(opcode(text) == "BAR" for text in own),
                shared=len(shared),
            )
        )
        inner = (start, end)
    return loops

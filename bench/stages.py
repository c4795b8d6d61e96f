"""Stages of a long check: each within its share of the time, its outcome on disk before the next.

A stage is a Python of its own, which a hang, a crash or a kernel that never returns can't survive:
when its time is over, it and all it started are killed, and the last line it printed says where.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from letter_fast.atomic import write_bytes

_LINES = 40  # of a stage's output, kept with its outcome
_GONE = 10.0  # seconds that a killed process may take to vanish; a stuck driver holds it longer


@dataclass(frozen=True)
class Stage:
    """python `command`, which passes if it exits with 0."""

    name: str
    command: tuple[str, ...]
    seconds: float
    """Its share. What stages before it left of theirs is added."""
    needs: tuple[str, ...] = ()
    """Stages without whose success this one would mean nothing."""
    mends: str = ""
    """Runs only if that stage failed, and makes up for it."""
    before: tuple[str, ...] = ()
    """A program that the Python runs under."""
    environment: tuple[tuple[str, str], ...] = ()
    unless: str = ""
    """Why it is left out on this machine."""


@dataclass
class Check:
    """Runs stages, and writes what is known of them to `file` whenever that changes.

    facts: about the machine, written along.
    """

    file: Path
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage]) -> list[str]:
        """Runs all stages. -> those that failed. An interrupt ends one, and is raised again."""
        end = time.monotonic()
        for stage in stages:
            end += stage.seconds
            skipped = self._left_out(stage)
            if skipped:
                if skipped != "not needed":
                    print(f"==> {stage.name}: left out, {skipped}", flush=True)
                self._note(stage, outcome=f"left out: {skipped}")
                continue
            print(f"==> {stage.name}", flush=True)
            self._note(stage, outcome="running")
            began, last = time.monotonic(), deque[str](maxlen=_LINES)
            outcome = "interrupted"
            try:
                outcome = self._outcome(stage, end - began, last)
            finally:
                seconds = round(time.monotonic() - began, 1)
                self._note(stage, outcome=outcome, seconds=seconds, output=list(last))
            if outcome != "passed":
                print(f"==> {stage.name}: {outcome}", flush=True)
        mended = {stage.mends for stage in stages if self._passed(stage.name)}
        return [
            stage.name
            for stage in stages
            if not self._passed(stage.name)
            and not self.outcomes[stage.name]["outcome"].startswith("left out")
            and stage.name not in mended
            and not stage.mends
        ]

    def _left_out(self, stage: Stage) -> str:
        if stage.unless:
            return stage.unless
        missing = [name for name in stage.needs if not self._passed(name)]
        if missing:
            return f"{', '.join(missing)} did not pass"
        return "not needed" if stage.mends and self._passed(stage.mends) else ""

    def _passed(self, name: str) -> bool:
        return bool(self.outcomes.get(name, {}).get("outcome") == "passed")

    def _note(self, stage: Stage, **known: Any) -> None:
        self.outcomes[stage.name] = {"share": stage.seconds, **known}
        content = {"machine": self.facts, "stages": self.outcomes}
        write_bytes(self.file, (json.dumps(content, indent=1) + "\n").encode())

    def _outcome(self, stage: Stage, seconds: float, last: deque[str]) -> str:
        with _started(stage, self.folder, last) as process:
            try:
                status = process.wait(max(seconds, 0.0))
            except subprocess.TimeoutExpired:
                where = f"after {last[-1]!r}" if last else "before it printed anything"
                return f"stopped after {seconds:.0f} s, {where}"
        return "passed" if status == 0 else f"failed with exit code {status}"


@contextmanager
def _started(stage: Stage, folder: Path, last: deque[str]) -> Iterator[subprocess.Popen[str]]:
    """The stage's process, its lines passed on; nothing of it is left afterwards."""
    process = subprocess.Popen(
        [*stage.before, sys.executable, *stage.command],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **dict(stage.environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it starts can be killed with it
    )
    reader = threading.Thread(target=_pass_on, args=(process.stdout, last), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GONE)
        reader.join(_GONE)


def _pass_on(lines: IO[str], last: deque[str]) -> None:
    """Print the lines of a stage as they come, and keep the last ones."""
    with lines:
        for line in lines:
            print(line, end="", flush=True)
            if line.strip():
                last.append(line.rstrip()[:500])


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is raised as KeyboardInterrupt, so that outcomes are written before the end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

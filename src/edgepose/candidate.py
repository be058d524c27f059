"""Candidate: a model in an engine with some threads, run in a process of its own so that thread pools stay apart.

The process (`python -m edgepose.candidate`) reads a line and answers a line. A line is a path of a picture to find the
people in; the answer is a JSON object with the milliseconds of each step. So does any outside command that is timed
beside it (`edgepose bench --peer`), whose answers may be anything. Here "many" with a JSON object is a line as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

STEPS = ("decode file", "encode", "network", "decode poses")
MANY = "many "  # before {"pictures": [...], "batch": n}: pictures at once, answered by pictures per second


@dataclass(frozen=True)
class Candidate:
    """What is timed. model: name or folder. runtime: its fastest unless given. plain: one scale, no mirrored picture.
    short: short side of whole pictures in pixels, the card's unless given. alone: without a detector, so that a model
    that looks at one person at a time takes the whole picture for one."""

    model: str
    runtime: str | None
    threads: int
    plain: bool = False
    no_flip: bool = False
    short: int | None = None
    alone: bool = False


class Worker:
    """A process that answers lines; `with Worker(command) as worker: reply, seconds = worker.ask(line)`."""

    def __init__(self, command: Sequence[str], name: str, threads: int | None = None) -> None:
        self.name, self.begun = name, time.perf_counter()
        pools = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"} if threads else {}
        self.said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (a pipe could fill up; closed in __exit__)
        pipe, env = subprocess.PIPE, {**os.environ, **pools}
        try:
            self.process = subprocess.Popen(
                list(command), stdin=pipe, stdout=pipe, stderr=self.said, text=True, bufsize=1, env=env
            )
        except OSError as error:
            raise ValueError(f"cannot start {name}: {error.strerror}") from error

    @classmethod
    def of(cls, candidate: Candidate) -> Worker:
        """The process of a candidate."""
        command = [sys.executable, "-m", "edgepose.candidate", json.dumps(asdict(candidate))]
        return cls(command, f"{candidate.model} in {candidate.runtime or 'its engine'}", candidate.threads)

    def ask(self, line: str) -> tuple[str, float]:
        """The answer to a line, and the seconds it took; `ValueError` with what the process said if it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        begin = time.perf_counter()
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        seconds = time.perf_counter() - begin
        if not reply:
            self._end()
            self.said.seek(0)
            said = [text for text in self.said.read().splitlines() if text.strip()]
            raise ValueError(f"{self.name}: {said[-1].removeprefix('edgepose: ') if said else 'ended without a word'}")
        return reply.rstrip("\n"), seconds

    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self.begun

    def memory(self) -> float | None:
        """The most memory it has held so far, MB (resident); None where the system does not say."""
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            return None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._end()
        self.said.close()

    def _end(self) -> None:
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def opened(candidate: Candidate) -> Any:
    """The predictor of a candidate."""
    from dataclasses import replace

    from edgepose.codecs.bottomup import BottomUp
    from edgepose.predictor import Predictor, load

    flip = False if candidate.plain or candidate.no_flip else None
    predictor = load(candidate.model, candidate.runtime, "cpu", candidate.threads, flip)
    if candidate.alone:
        predictor.detect = None
    whole = [p for p in (predictor, predictor.detect) if isinstance(p, Predictor) and isinstance(p.codec, BottomUp)]
    for part in whole:
        codec: Any = part.codec
        sizes = {"scales": (1.0,)} if candidate.plain else {}
        sizes |= {"input_size": candidate.short} if candidate.short is not None else {}
        part.codec = replace(codec, **sizes)
    return predictor


def counted(predictor: Any) -> list[float]:
    """Make `predictor` note what its networks do: [calls, multiply-adds / 1e9 by its cards], in place."""
    from edgepose.models import input_hw
    from edgepose.predictor import Predictor

    done = [0.0, 0.0]
    for part in (predictor, predictor.detect):
        if not isinstance(part, Predictor):
            continue
        h, w = input_hw(part.card.codec.input_size)  # type: ignore[attr-defined]

        def run(batch: Any, engine: Any = part.engine, each: float = (part.card.gmacs or 0.0) / (h * w)) -> Any:
            done[0] += 1
            done[1] += each * len(batch) * batch.shape[2] * batch.shape[3]
            return engine(batch)

        part.engine = run
    return done


def main() -> None:
    """Answer lines until there are none."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        candidate = Candidate(**json.loads(sys.argv[1]))
        import cv2

        cv2.setNumThreads(candidate.threads)
        predictor = opened(candidate)
        done = counted(predictor)
        for line in map(str.rstrip, sys.stdin):
            if line.startswith(MANY):
                print(json.dumps(_many(predictor, **json.loads(line.removeprefix(MANY)))), file=answers)
                continue
            predictor.spent.clear()
            done[:] = 0.0, 0.0
            people = len(predictor(line))
            spent = {step: 1e3 * seconds for step, seconds in predictor.spent.items()}
            print(json.dumps({**spent, "people": people, "calls": done[0], "gmacs": done[1]}), file=answers)
    except (ValueError, OSError) as error:
        print(f"edgepose: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _many(predictor: Any, pictures: Sequence[str], batch: int) -> dict[str, float]:
    begin = time.perf_counter()
    answers = list(predictor.many(pictures, batch))
    seconds = time.perf_counter() - begin
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed:
        raise ValueError(failed[0])
    return {"pictures per second": len(answers) / seconds}


if __name__ == "__main__":
    main()

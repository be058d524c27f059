"""What commands say: problems on stderr, one line each, and a progress bar where somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def complain(problem: object) -> None:
    """One line on stderr."""
    print(f"edgepose: {' '.join(str(problem).split())}", file=sys.stderr)


def counted(n: int, one: str, many: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{n} {one if n == 1 else many}"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal and there is more than one step."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)

"""The progress of a run: bars with rates and remaining time on a terminal, elsewhere a line per finished stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

Advance = Callable[[int], None]


class Progress(Protocol):
    """Receives the stages of a run, and how many samples each has processed."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """A stage of `total` samples (None: unknown); the value is called with the number of new samples."""
        ...


class Silent:
    """Progress that prints nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """A stage that is not shown."""
        yield lambda count: None


class Bars:
    """A bar per stage with samples per second and remaining time; without a terminal, a line when a stage is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bars = RichProgress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """A stage as a bar."""
        bar = self._bars.add_task(Text(name).markup, total=total)
        done, begun = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._bars.advance(bar, count)

        yield advance
        seconds = time.monotonic() - begun
        self._bars.update(bar, total=done)
        if not self._console.is_terminal:
            line = f"{name}: {done:,} samples in {seconds:.1f} s ({done / max(seconds, 1e-9):,.0f}/s)"
            self._console.print(line, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")

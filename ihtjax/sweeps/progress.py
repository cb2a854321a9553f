"""Progress of long work: a bar on a terminal, plain lines through a pipe, nothing at all."""

import contextlib
import sys
import time

from tqdm import tqdm


class Silent:
    """Shows nothing; what a library call uses unless told otherwise."""

    def start(self, total: int, unit: str = "lane-steps") -> None:
        """Begin ``total`` lane-steps, or whatever else the work is counted in."""

    def add(self, count: int) -> None:
        """Count finished work."""

    def say(self, line: str) -> None:
        """Show a line of text."""

    def close(self) -> None:
        """End."""


class Forgiving:
    """A stream for progress: once it can't be written to, because it was closed or its disk is full, it says nothing.

    Work doesn't end because nobody can read how far it is.
    """

    def __init__(self, file):
        self.file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            self.file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.file.flush()

    def __getattr__(self, name):
        return getattr(self.file, name)


class Bar(Silent):
    """A bar with rate and time left, on a terminal."""

    def __init__(self, file=None):
        self.file = Forgiving(file or sys.stderr)
        self.bar = None

    def start(self, total: int, unit: str = "lane-steps") -> None:
        self.bar = tqdm(
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            file=self.file,
            dynamic_ncols=True,
            smoothing=0,
            bar_format="{percentage:3.0f}% |{bar}| {rate_fmt}, {remaining} left",
        )

    def add(self, count: int) -> None:
        self.bar.update(count)

    def say(self, line: str) -> None:
        tqdm.write(line, file=self.file)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class Lines(Silent):
    """The same as plain lines, one every few seconds."""

    def __init__(self, file=None, every: float = 5.0):
        self.file = Forgiving(file or sys.stderr)
        self.every = every

    def start(self, total: int, unit: str = "lane-steps") -> None:
        self.total, self.done, self.unit = total, 0, unit
        self.began = self.shown = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.shown >= self.every or self.done == self.total:
            self.shown = now
            rate = self.done / max(now - self.began, 1e-9)
            left = tqdm.format_interval((self.total - self.done) / rate)
            self.say(f"{100 * self.done / self.total:3.0f}%  {tqdm.format_sizeof(rate)} {self.unit}/s, {left} left")

    def say(self, line: str) -> None:
        print(line, file=self.file, flush=True)


def for_stream(file=None) -> Silent:
    """A `Bar` if the stream (stderr by default) is a terminal, else `Lines`; `Silent` if there is none."""
    file = file or sys.stderr
    if file is None or file.closed:
        return Silent()
    return Bar(file) if file.isatty() else Lines(file)


def in_words(seconds: float) -> str:
    """A rough length of time, as in "40 s", "12 min" or "85 h"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(1, seconds):.0f} s"

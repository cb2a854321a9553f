"""What batches and units of a sweep need of memory, what there is, and the engine whose batches fit."""

import contextlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ihtjax.errors import InputError
from ihtjax.problems.base import Problem
from ihtjax.solvers.base import Solver
from ihtjax.sweeps.config import VECTORS, SweepConfig
from ihtjax.sweeps.engine import Engine, check_batch, make_engine, platform, workers

# A unit is some seconds of work, and no more rows than memory holds with ease.
UNIT_LANE_STEPS = 20_000_000
UNIT_ROWS = 65_536
UNIT_BYTES = 2**29
# Of a unit while it is written: its batches put together, its table, and the bytes of its file.
UNIT_COPIES = 5
# The rest is left for others, and for what the compiler doesn't count.
SHARE_OF_FREE = 0.8
# For each batch that runs, of so many at most results wait to be written.
RESULTS_HELD = 3
# A control group's limit, what it uses, and what of that the system would drop, in versions 2 and 1.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class Room(NamedTuple):
    """Bytes on the device and on the host; on CPU all are the host's."""

    device: float
    host: float


class Need(NamedTuple):
    """Bytes that a sweep needs.

    Attributes:
      batch: of a batch while it runs: arguments, temporaries and results.
      results: of those results that wait on the host, for each batch that runs.
      unit: of a unit while it is written.
    """

    batch: float
    results: float
    unit: float

    def of(self, flights: int) -> Room:
        """What so many batches at a time need on the device and on the host."""
        on_host = flights * self.results + self.unit
        if platform() == "cpu":
            return Room(0, flights * self.batch + on_host)
        return Room(flights * self.batch, on_host)

    def flights(self, room: Room, most: int) -> int:
        """How many batches fit at a time, at most so many."""
        fitting = (k for k in range(most, 0, -1) if all(x <= y for x, y in zip(self.of(k), room)))
        return next(fitting, 0)

    def largest_batch(self, lanes: int, room: Room, flights: int) -> int:
        """The largest power of two below ``lanes``, those of this need, of which so many fit at a time; 0 if none."""
        fewer = 2 ** math.ceil(math.log2(lanes)) // 2
        while fewer:
            share = fewer / lanes  # temporaries are in proportion to lanes
            if Need(share * self.batch, share * self.results, self.unit).flights(room, flights) == flights:
                return fewer
            fewer //= 2
        return 0


def fitting_engine(problem: Problem, solver: Solver, config: SweepConfig, batch: int | None) -> Engine:
    """The same as `fitting_engines`, of one solver: a trial's default batch is that of a sweep of its configuration."""
    engines, _ = fitting_engines(problem, {"": solver}, config, batch)
    return engines[""]


def fitting_engines(
    problem: Problem, solvers: Mapping[str, Solver], config: SweepConfig, batch: int | None
) -> tuple[dict[str, Engine], int]:
    """Engines whose batches fit into memory, and how many of these run at a time, at most `workers`.

    With ``batch`` they are of so many lanes, since results depend on them to the last bit, even if fewer batches fit
    than there are workers. Without it they are of as many as suit the device, or else of the largest power of two of
    which each worker can have a batch.

    Args:
      problem, solvers, config: what is minimised, how, by name, and with which options.
      batch: lanes per call, or None.

    Raises:
      InputError: not one batch fits; the text says how many lanes would.
    """
    lanes = check_batch(batch, problem)
    while True:
        engines = {name: make_engine(problem, solver, config, lanes) for name, solver in solvers.items()}
        need = largest(filter(None, (needed(engine, config) for engine in engines.values())))
        room = Room(SHARE_OF_FREE * device_memory(), SHARE_OF_FREE * host_memory())
        flights = need.flights(room, workers())
        if flights == workers() or (flights and (batch is not None or lanes == 1)):
            return engines, flights
        if batch is not None or lanes == 1:
            raise InputError(_too_large(lanes, need, room))
        lanes = need.largest_batch(lanes, room, workers()) or 1


def _too_large(lanes: int, need: Need, room: Room) -> str:
    needs, free = next((x, y) for x, y in zip(need.of(1), room) if x > y)
    fit = need.largest_batch(lanes, room, 1)
    way_out = (
        f"take {fit:,}, or free memory for a run that is there, which keeps its batch"
        if fit
        else "not even 1 would fit, so free memory, or take fewer Monte Carlo draws, curve points or trials"
    )
    return (
        f"batch: {lanes:,} at a time need {needs / 1e6:,.0f} MB of memory, expected at most {free / 1e6:,.0f} MB, "
        f"{SHARE_OF_FREE:.0%} of what is free; {way_out}"
    )


def largest(needs: Iterable[Need]) -> Need:
    """The most of each, where batches of all of these run; nothing where none is known."""
    return Need(*map(max, zip(Need(0, 0, 0), *needs)))


def needed(engine: Engine, config: SweepConfig) -> Need | None:
    """What a sweep needs, by the compiler's account of its programs; None where it gives none."""
    with contextlib.suppress(AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):
        batch, results = engine.run.memory()
        n = engine.problem.n
        rows = min(unit_rows(config, n, engine.batch), config.trials)
        return Need(batch, RESULTS_HELD * results, UNIT_COPIES * rows * row_bytes(config, n))
    return None


def unit_rows(config: SweepConfig, n: int, batch: int) -> int:
    """How many trials a unit has: seconds of work, no more than memory holds with ease, and whole batches."""
    rows = min(UNIT_ROWS, round(UNIT_LANE_STEPS / config.steps), UNIT_BYTES // row_bytes(config, n))
    return batch * max(1, round(rows / batch))


def row_bytes(config: SweepConfig, n: int) -> int:
    """Roughly the bytes of a trial in its unit's tables: parameters, curve, and some 40 single values."""
    real = np.dtype(config.precision).itemsize
    points = min(config.curve_points, config.steps + 1)
    return len(VECTORS[config.theta]) * n * real + points * (2 * real + 20) + 40 * 4


def device_memory() -> float:
    """Bytes that are free on the device; infinite where it is the CPU, or doesn't say."""
    stats = None if platform() == "cpu" else jax.devices()[0].memory_stats()
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if stats and "bytes_limit" in stats else math.inf


def host_memory() -> float:
    """Bytes that this process can still take: the least that the machine and its control groups leave it."""
    return min(machine_memory(), *map(group_memory, groups()), math.inf)


def machine_memory(info: Path = Path("/proc/meminfo")) -> float:
    """Bytes that the machine has left without swapping; infinite where it doesn't say."""
    with contextlib.suppress(OSError):
        lines = dict(line.split(":") for line in info.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    return math.inf


def groups(mine: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders of the control groups that bound this process's memory, where there are any."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for line in mine.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                top = root / controllers
                group = top / path.strip("/")
                found += [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return found


def group_memory(group: Path) -> float:
    """Bytes that a control group leaves its processes; infinite where it has no limit."""
    for limit, used, droppable in GROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            left = int((group / limit).read_text()) - int((group / used).read_text())
            return left + int(stat.get(droppable, 0))
    return math.inf

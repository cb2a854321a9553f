"""What decides a claim: a number with its interval, and rules that are the same for every run."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

HOLDS = "holds"
LIMITED = "holds with a limit"
FAILS = "does not hold"
UNDECIDED = "cannot be decided from this run"
VERDICTS = (HOLDS, LIMITED, FAILS, UNDECIDED)

CONFIDENCE = 0.95
# Fewer triples than LEAST decide nothing; with fewer than FEW, what holds does so with that limit.
LEAST, FEW = 10, 100
# A share holds if it is surely at least so much, and holds with a limit if it is surely at least a half.
ALMOST_ALL, HALF = 0.99, 0.5


class Claim(NamedTuple):
    """One claim of the paper, judged.

    Attributes:
      id: a name that stays the same from run to run.
      where: where the paper says so.
      claim: its words, in short.
      statistic: what decides, and the rule from its interval to the verdict.
      value, low, high: the statistic and its 95 % interval; None where there is none, equal where it is exact.
      verdict: one of `VERDICTS`.
      why: one sentence.
    """

    id: str
    where: str
    claim: str
    statistic: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str
    why: str


class Interval(NamedTuple):
    """A statistic of N triples with its interval of `CONFIDENCE`."""

    value: float
    low: float
    high: float
    N: int


class NoTriples(Exception):
    """A statistic was asked of no triple."""


def bootstrap(sample: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Interval:
    """Percentile interval of a statistic over triples: rows are drawn again with replacement, all columns together.

    Args:
      sample: ``[N, c]``, a row for each triple, so that columns (levels) stay paired.
      statistic: maps ``[.., N, c]`` to ``[..]``.
      seed: of the resampling; the same run has the same interval.

    References:
      Efron, Bootstrap methods, 1979, doi:10.1214/aos/1176344552.
    """
    N = len(sample)
    if not N:
        raise NoTriples
    repeats = int(np.clip(4_000_000 // N, 200, 2000))
    draw = np.random.default_rng(seed)
    at_once = max(1, 500_000 // sample.size)
    found = []
    for start in range(0, repeats, at_once):
        rows = draw.integers(N, size=(min(at_once, repeats - start), N))
        found.append(statistic(sample[rows]))
    low, high = np.quantile(np.concatenate(found), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(statistic(sample)), float(low), float(high), N)


def share(holds: np.ndarray) -> Interval:
    """The share of trials of which something holds, the mean over triples of each triple's share.

    Where every triple says the same, resampling has no width; the exact binomial interval of N triples takes its
    place there, as if the next one might differ.

    Args:
      holds: booleans ``[N, levels]``.

    References:
      Clopper and Pearson, 1934, doi:10.1093/biomet/26.4.404.
    """
    found = bootstrap(np.asarray(holds, float).mean(1, keepdims=True), lambda rows: rows[..., 0].mean(-1))
    if found.value in (0.0, 1.0):
        exact = stats.binomtest(round(found.value * found.N), found.N).proportion_ci(CONFIDENCE, method="exact")
        found = found._replace(low=float(exact.low), high=float(exact.high))
    return found


def rises(found: Interval) -> str:
    """Holds if the interval lies above 0, does not if it lies below or at 0."""
    return HOLDS if found.low > 0 else FAILS if found.high <= 0 else UNDECIDED


def within(found: Interval, strict: float, loose: float) -> str:
    """Holds if the interval ends within ``strict``, with a limit within ``loose``; fails if it begins beyond that."""
    if found.high <= strict:
        return HOLDS
    return LIMITED if found.high <= loose else FAILS if found.low > loose else UNDECIDED


def nearly_all(found: Interval) -> str:
    """Of a share: see `ALMOST_ALL` and `HALF`."""
    if found.low >= ALMOST_ALL:
        return HOLDS
    return LIMITED if found.low >= HALF else FAILS if found.high < HALF else UNDECIDED


class Question(NamedTuple):
    """A claim before it is judged, and what judges it.

    Attributes:
      id, where, claim, statistic: as in `Claim`.
      decide: maps the evidence to (`Interval` or number, verdict, why), or to a text that says why it can't.
    """

    id: str
    where: str
    claim: str
    statistic: str
    decide: Callable

    def judge(self, run) -> Claim:
        """The claim with its verdict; few triples limit it, and are named.

        With fewer than `LEAST` nothing is decided; what holds on fewer than `FEW` holds with a limit.
        """
        try:
            outcome = self.decide(run)
        except NoTriples:
            return self.undecided("No triple has finished, finite values at all the levels that this needs.")
        if isinstance(outcome, str):
            return self.undecided(outcome)
        found, verdict, why = outcome
        if isinstance(found, Interval):
            if found.N < FEW:
                why = f"{why.rstrip('.')}; from {found.N} triples only, so the interval is wide."
                verdict = UNDECIDED if found.N < LEAST else LIMITED if verdict == HOLDS else verdict
            return Claim(*self[:4], *found[:3], verdict, why)
        # A computation that no draw of triples enters.
        return Claim(*self[:4], *[float(found)] * 3, verdict, why)

    def undecided(self, why: str) -> Claim:
        return Claim(*self[:4], None, None, None, UNDECIDED, why)


class Questions(list):
    """Questions in order; `ask` puts a deciding function on the list."""

    def ask(self, id: str, where: str, claim: str, statistic: str) -> Callable:
        def add(decide):
            self.append(Question(id, where, claim, statistic, decide))
            return decide

        return add


def as_json(claim: Claim) -> dict:
    """The claim's fields as JSON has them: what is not finite is null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in claim._asdict().items()}

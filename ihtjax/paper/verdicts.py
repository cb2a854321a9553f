"""What decides a claim: a number with its interval, and rules that are the same for every run."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats

from ihtjax.paper.subject import NotEnough

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
LEVELS_RULE = (
    "holds if sure at every level; does not if at half of the levels or more {} is surely not to be had; else holds "
    "with a limit if at half of them or more it surely is; exact binomial tests, corrected over the levels (Holm)."
)


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
      seen: what the run shows, in a clause that doesn't depend on the verdict; empty where no answer quotes it.
      readings: where several intervals decide, the name, value and ends of each; the first are those above.
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
    seen: str = ""
    readings: tuple[tuple[str, float, float, float], ...] = ()

    def admits(self, value: float | None) -> bool:
        """Whether a number lies in the interval; none does where there is no interval."""
        return value is not None and self.low is not None and self.high is not None and self.low <= value <= self.high


class Interval(NamedTuple):
    """A statistic of N triples with its interval of `CONFIDENCE`."""

    value: float
    low: float
    high: float
    N: int


class Ruling(NamedTuple):
    """A verdict by a rule, and what the rule would say if the value were known exactly, as from many more triples."""

    verdict: str
    by_value: str


def ruling(rule: Callable[..., str], *found: Interval) -> Ruling:
    """What a rule, a function of intervals, says of them."""
    return Ruling(
        rule(*found), rule(*(interval._replace(low=interval.value, high=interval.value) for interval in found))
    )


class NoTriples(NotEnough):
    """A statistic was asked of no triple."""

    def __init__(self):
        super().__init__("no triple is finished, without diverging, at all the levels that this needs")


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
    """The share of trials of which something holds, with the interval of Clopper and Pearson.

    A triple's levels share their split and their draws, so they are no independent trials: the interval is that of N
    triples of which ``share * N``, whole or not, hold, as if a triple's levels always agreed. It never falls as
    more trials hold, and has a width where all of them do.

    Args:
      holds: booleans ``[N, levels]``.

    References:
      Clopper and Pearson, 1934, doi:10.1093/biomet/26.4.404; with an effective number of trials, Korn and Graubard,
      Survey Methodology 24, 1998, 193-201.
    """
    holds = np.asarray(holds, bool)
    N = len(holds)
    if not N:
        raise NoTriples
    k = int(holds.sum()) / holds.shape[1]
    tail = (1 - CONFIDENCE) / 2
    low = stats.beta.ppf(tail, k, N - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(1 - tail, k + 1, N - k) if k < N else 1.0
    return Interval(k / N, float(low), float(high), N)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of several tests of one claim: each is below a if Holm's step-down procedure rejects at a.

    References:
      Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979, 65-70.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def surely_more(k: np.ndarray, N: int | np.ndarray, than: float) -> np.ndarray:
    """At which levels a chance is surely at least ``than``, from k successes in N; exact binomial tests, by `holm`."""
    return holm(stats.binom.sf(np.asarray(k) - 1, N, than)) <= (1 - CONFIDENCE) / 2


def surely_less(k: np.ndarray, N: int | np.ndarray, than: float) -> np.ndarray:
    """At which levels a chance is surely less than ``than``."""
    return holm(stats.binom.cdf(np.asarray(k), N, than)) <= (1 - CONFIDENCE) / 2


class OverLevels(NamedTuple):
    """A claim about every level, judged level by level with masks ``[levels]``.

    Attributes:
      found: at how many levels it is so by the strict reading; the interval's ends count where that is sure, and
        where the contrary isn't.
      ruling: holds if sure at all levels; does not if at half of them or more surely not even by the loose reading;
        else holds with a limit if at half of them or more surely by that.
      strictly, loosely, not_even: at which levels each is sure.
    """

    found: Interval
    ruling: Ruling
    strictly: np.ndarray
    loosely: np.ndarray
    not_even: np.ndarray

    @property
    def verdict(self) -> str:
        return self.ruling.verdict


def over_levels(strict: np.ndarray, loose: np.ndarray, strict_share: float, loose_share: float) -> OverLevels:
    """Judge a claim about every level by the shares of triples that satisfy two readings of it.

    Args:
      strict, loose: booleans ``[N, levels]``, of each triple and level, whether it satisfies the reading.
      strict_share, loose_share: of how many triples a level must satisfy each.
    """
    N, levels = strict.shape
    if not N:
        raise NoTriples
    k, j = strict.sum(0), loose.sum(0)
    strictly, loosely = surely_more(k, N, strict_share), surely_more(j, N, loose_share)
    not_even = surely_less(j, N, loose_share)
    not_strictly = surely_less(k, N, strict_share)
    found = Interval(int((k >= strict_share * N).sum()), int(strictly.sum()), levels - int(not_strictly.sum()), N)

    def verdict(strictly, loosely, not_even):
        if strictly.all():
            return HOLDS
        if 2 * not_even.sum() >= levels:
            return FAILS
        return LIMITED if 2 * loosely.sum() >= levels else UNDECIDED

    by_value = verdict(k >= strict_share * N, j >= loose_share * N, j < loose_share * N)
    return OverLevels(found, Ruling(verdict(strictly, loosely, not_even), by_value), strictly, loosely, not_even)


def either_reading(verdicts: dict[str, str]) -> tuple[str, str]:
    """One verdict where the paper doesn't say which of several readings it means, and a remark.

    It is what all of them say: where some hold and some hold with a limit, all hold with that limit; where one holds
    and another doesn't, or one is undecided, there is nothing that all say, for or against.
    """
    said = set(verdicts.values())
    if len(said) == 1:
        return said.pop(), f"by {' and '.join(verdicts)} alike"
    remark = "; ".join(f"by the {name}: {verdict}" for name, verdict in verdicts.items())
    return LIMITED if said == {HOLDS, LIMITED} else UNDECIDED, f"{remark}; the paper doesn't say which it means"


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
      decide: maps the evidence to (`Interval`, several by their names, or number; verdict or `Ruling`; why) and
        perhaps `Claim.seen`, or to a text that says why it can't; it may also raise `NotEnough`.
      needs: what a run must have for it, as `Subject.lacks` names it.
    """

    id: str
    where: str
    claim: str
    statistic: str
    decide: Callable
    needs: tuple[str, ...] = ()

    def judge(self, run) -> Claim:
        """The claim with its verdict; few triples limit it, and are named.

        With fewer than `LEAST` nothing is decided; what holds on fewer than `FEW` holds with a limit. Where the value
        alone would decide, it says that more triples would.
        """
        try:
            outcome = self.decide(run)
        except NotEnough as reason:
            return self.undecided(f"{str(reason)[0].upper()}{str(reason)[1:]}.")
        if isinstance(outcome, str):
            return self.undecided(outcome)
        found, verdict, why, *seen = outcome
        verdict, by_value = verdict if isinstance(verdict, Ruling) else (verdict, verdict)
        readings: tuple[tuple[str, float, float, float], ...] = ()
        if isinstance(found, dict):
            readings = tuple((name, *interval[:3]) for name, interval in found.items())
            found = next(iter(found.values()))
        if isinstance(found, Interval):
            if found.N < FEW:
                why = f"{why.rstrip('.')}; from {found.N} triples only, so the interval is wide."
                verdict = UNDECIDED if found.N < LEAST else LIMITED if verdict == HOLDS else verdict
            if verdict in (LIMITED, UNDECIDED) and by_value not in (verdict, UNDECIDED):
                more = "more triples would decide it: at this value it"
                why = f"{why.rstrip('.')}; {more} {by_value}."
            return Claim(*self[:4], *found[:3], verdict, why, *seen)._replace(readings=readings)
        # A computation that no draw of triples enters.
        exact = float(found)
        return Claim(*self[:4], exact, exact, exact, verdict, why, *seen)

    def undecided(self, why: str) -> Claim:
        return Claim(*self[:4], None, None, None, UNDECIDED, why)


class Questions(list):
    """Questions in order; `ask` puts a deciding function on the list."""

    def ask(self, id: str, where: str, claim: str, statistic: str, *needs: str) -> Callable:
        def add(decide):
            self.append(Question(id, where, claim, statistic, decide, needs))
            return decide

        return add


def as_json(claim: Claim) -> dict:
    """The claim's fields as JSON has them: what is not finite is null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in claim._asdict().items()}


def spans(levels: Iterable[int]) -> str:
    """Whole numbers in order as text: "1, 3 to 5"."""
    parts: list[list[int]] = []
    for s in levels:
        if parts and s == parts[-1][1] + 1:
            parts[-1][1] = s
        else:
            parts.append([s, s])
    return ", ".join(str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a} to {b}" for a, b in parts)

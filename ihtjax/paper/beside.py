"""The same claims judged by another run, beside the first: a second reading of what the paper leaves open."""

from typing import NamedTuple

from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import judge
from ihtjax.paper.verdicts import UNDECIDED, Claim
from ihtjax.sweeps import progress


class Beside(NamedTuple):
    """Another run's verdicts.

    Attributes:
      name, path: of the other run.
      differs: option, its value in the first run, its value in the other.
      claims: what a run decides, judged by the other.
      changed: pairs of the first run's claim and the other's, where both have a number, and either the verdicts differ
        or one's number lies outside the other's interval.
      undecided: how many claims the first run decides and the other doesn't.
    """

    name: str
    path: str
    differs: list[tuple[str, str, str]]
    claims: list[Claim]
    changed: list[tuple[Claim, Claim]]
    undecided: int


def beside(run: Evidence, found: list[Claim], other: Evidence, show: progress.Silent | None = None) -> Beside:
    """Judge the claims by another run, and compare.

    Args:
      run: the first run.
      found: its claims.
      other: the other run.
      show: a progress display; none by default.
    """
    theirs = judge(other, show=show, theory=False)
    first = {claim.id: claim for claim in found}
    pairs = [(first[claim.id], claim) for claim in theirs]
    ours, its = run.config.to_json(), other.config.to_json()
    return Beside(
        other.path.resolve().name,
        other.path.as_posix(),
        [(name, str(ours[name]), str(its[name])) for name in ours if ours[name] != its[name]],
        theirs,
        [(a, b) for a, b in pairs if a.value is not None and b.value is not None and differ(a, b)],
        sum(a.verdict != UNDECIDED and b.verdict == UNDECIDED for a, b in pairs),
    )


def differ(a: Claim, b: Claim) -> bool:
    """Whether two runs say different things of a claim."""
    return a.verdict != b.verdict or not (b.admits(a.value) and a.admits(b.value))

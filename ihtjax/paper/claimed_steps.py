"""The claims of the paper's subsections III-F and III-G about step sizes and descent, judged by a run."""

import numpy as np

from ihtjax.exact.bounds import CERTIFIED, REFUTED
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import (
    FAILS,
    HOLDS,
    LIMITED,
    UNDECIDED,
    Interval,
    Questions,
    nearly_all,
    ruling,
    share,
    spans,
)
from ihtjax.sweeps.words import unit

QUESTIONS = Questions()


@QUESTIONS.ask(
    "Lhat-upper-bound",
    "III-F",
    "The estimate L-hat_2s is a conservative upper bound for L_2s.",
    "Share of all trials whose L-hat_2s isn't below the certified lower end of L_2s of (4), and of those whose is at "
    "least its upper end: holds if surely 99 % are the latter; does not if surely under half are the former; else "
    "holds with a limit if surely half are the latter.",
    "oracle",
)
def conservative(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    if run.config.step_size is not None:
        return "The step size was given, so this run estimates nothing."
    levels = levels_of(run)
    L, low, high, six = (
        run.every(name, levels, table="certificates")
        for name in ("lipschitz_estimate", "rss_lower", "rss_upper", "lipschitz_lower")
    )
    below, above = L < low, L >= high
    why = (
        "A maximum of sampled ratios is a lower estimate of (6)'s constant, which by itself says nothing of (4)'s. "
        f"Against (4)'s L_2s, {below.mean():.0%} lie below for certain{every(below, levels)} and {above.mean():.0%} "
        f"above{every(above, levels)}; {(L < six).mean():.0%} lie below (6)'s for certain{run.certified_text(len(L))}."
    )
    seen = f"the estimate is below L_2s for certain in {below.mean():.0%} of the trials, above it in {above.mean():.0%}"
    found = {"not below": share(L >= low), "above": share(above)}
    return found, ruling(proven, *found.values()), why, seen


def every(holds: np.ndarray, levels: list[int]) -> str:
    """At which levels it holds of every trial, in brackets; empty if at none or at all."""
    which = [s for s, all_of_them in zip(levels, np.all(holds, axis=0)) if all_of_them]
    return f" (all at s = {spans(which)})" if 0 < len(which) < len(levels) else ""


@QUESTIONS.ask(
    "step-size-valid",
    "III-G, [5, Corollary 3]",
    "The step size satisfies gamma <= 1 / L_2s, so that IHT's function values converge.",
    "Share of all trials whose gamma isn't above 1 / (certified lower end of L_2s), and of those whose is at most 1 / "
    "(upper end): holds if surely 99 % are the latter; does not if surely under half are the former; else holds "
    "with a limit if surely half are the latter.",
    "oracle",
)
def valid_steps(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    levels = levels_of(run)
    status = run.every("step_status", levels, table="certificates")
    certified, refuted = status == CERTIFIED, status == REFUTED
    return condition(run, certified, refuted, levels, "1 / L_2s")


@QUESTIONS.ask(
    "gradient-descent-step-valid",
    "III-G",
    "Gradient descent's function values converge for 0 < gamma < 2 / L (here: whether the dense runs' gamma is so).",
    "Share of the dense trials whose gamma isn't at least 2 / (certified lower end of L), and of those whose is below "
    "2 / (upper end): holds if surely 99 % are the latter; does not if surely under half are the former; else "
    "holds with a limit if surely half are the latter.",
    "oracle",
)
def valid_dense_steps(run: Evidence):
    if not run.has_dense:
        return "The run has no dense baseline (--no-dense)."
    if not run.has_certificates:
        return run.without_certificates
    names = ("step_size", "rss_lower", "rss_upper")
    gamma, low, high = (run.every(name, [run.n], "gd", "certificates") for name in names)
    return condition(run, gamma < 2 / high, gamma >= 2 / low, [run.n], "2 / L")


def condition(run: Evidence, certain: np.ndarray, refuted: np.ndarray, levels: list[int], limit: str):
    """Whether theory's condition on the step size is met, ``[N, levels]``: for certain, not for certain, or open."""
    text = (
        f"{refuted.mean():.1%} of the steps are longer than {limit} for certain{every(refuted, levels)}, "
        f"{certain.mean():.1%} valid for certain{every(certain, levels)}"
    )
    open_ones = 1 - refuted.mean() - certain.mean()
    why = f"{text}, {open_ones:.1%} open{run.certified_text(len(certain))}."
    found = {"not too long": share(~refuted), "valid": share(certain)}
    return found, ruling(proven, *found.values()), why, text


def levels_of(run: Evidence) -> list[int]:
    return [s for s in run.levels if s in run.certified_levels]


def proven(possible: Interval, certain: Interval) -> str:
    """From the share of which it is possible and that of which it is certain."""
    if nearly_all(certain) == HOLDS:
        return HOLDS
    return FAILS if nearly_all(possible) == FAILS else LIMITED if nearly_all(certain) == LIMITED else UNDECIDED


@QUESTIONS.ask(
    "f-never-rises",
    "III-G, [5, Corollary 3]",
    "Under IHT the function values converge (here: f never rises, beyond rounding, whatever gamma).",
    "Share of all trials whose loss stays finite and never rises by more than 16 roundings of max(1, its first value) "
    "between recorded points, or steps if these were audited; holds if surely 99 %, with a limit if surely half, and "
    "does not if surely less.",
)
def descent(run: Evidence):
    return never_rises(run, "iht", run.levels, "step-size-valid")


@QUESTIONS.ask(
    "gradient-descent-converges",
    "III-G",
    "Gradient descent's function values converge (here: f never rises in the dense runs, whatever their gamma).",
    "Share of the dense trials whose loss stays finite and never rises, as for IHT; holds if surely 99 %, with a limit "
    "if surely half, and does not if surely less.",
)
def dense_descent(run: Evidence):
    if not run.has_dense:
        return "The run has no dense baseline (--no-dense)."
    return never_rises(run, "gd", [run.n], "gradient-descent-step-valid")


def never_rises(run: Evidence, method: str, levels: list[int], promise: str):
    """The share of trials whose recorded losses never rise: monotone and bounded below, they converge."""
    if run.config.curve_points == 0:
        return "The run recorded no curve (--curve-points 0)."
    rise = run.every("largest_step_rise" if run.config.audit else "max_loss_increase", levels, method)
    first, ended = run.first_losses(levels, method), run.every("ended", levels, method)
    finite = ended & np.isfinite(rise) & np.isfinite(first)  # else the loss overflowed on the way, if not at the end
    rounding = 16 * np.finfo(run.config.precision).eps
    falls = finite & (rise <= rounding * np.maximum(1, first))
    found = share(falls)
    points = "over one step" if run.config.audit else f"between neighbouring points of {run.config.curve_points}"
    what = "IHT" if method == "iht" else "gradient descent"
    seen = f"the loss of {what} rose by more than rounding in {int((~falls).sum()):,} of {falls.size:,} trials"
    if not finite.all():
        seen += f", counting {int((~finite).sum()):,} in which it did not stay finite"
    why = f"{seen[0].upper()}{seen[1:]}"
    if finite.any():
        largest = f"{rise[finite].max():.1e}" if rise[finite].any() else "0"
        why += f"; the largest rise {points} is {largest}{unit(run.config)}"
    why += f", and {(finite & (rise == 0)).mean():.0%} never rise at all. See {promise} for whether theory promised it."
    return found, ruling(nearly_all, found), why, seen

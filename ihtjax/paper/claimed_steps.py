"""The claims of the paper's subsections III-F and III-G about step sizes and descent, judged by a run."""

import numpy as np

from ihtjax.exact.bounds import CERTIFIED, REFUTED
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, UNDECIDED, Interval, Questions, nearly_all, share

QUESTIONS = Questions()


@QUESTIONS.ask(
    "Lhat-upper-bound",
    "III-F",
    "The estimate L-hat_2s is a conservative upper bound for L_2s.",
    "Share of all trials whose L-hat_2s isn't below the certified lower end of L_2s of (4); does not hold if surely "
    "under half; holds if surely 99 % lie above its upper end.",
)
def conservative(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    if run.config.step_size is not None:
        return "The step size was given, so this run estimates nothing."
    levels = levels_of(run)
    L, low, high, six = (
        run.values(name, levels, table="certificates")
        for name in ("lipschitz_estimate", "rss_lower", "rss_upper", "lipschitz_lower")
    )
    found = share(L >= low)
    why = (
        f"A maximum of sampled ratios is a lower estimate: {(L < low).mean():.0%} lie below L_2s for certain, "
        f"{(L >= high).mean():.0%} above; below (6)'s constant for certain: {(L < six).mean():.0%}."
    )
    return found, proven(found, share(L >= high)), why


@QUESTIONS.ask(
    "step-size-valid",
    "III-G",
    "The step size satisfies gamma <= 1 / L_2s.",
    "Share of all trials whose gamma isn't above 1 / (certified lower end of L_2s); does not hold if surely under "
    "half; holds if surely 99 % are certified.",
)
def valid_steps(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    status = run.values("step_status", levels_of(run), table="certificates")
    found = share(status != REFUTED)
    certified, refuted = ((status == which).mean() for which in (CERTIFIED, REFUTED))
    why = f"{refuted:.1%} of the steps are too long for certain, {certified:.1%} valid for certain, the others open."
    return found, proven(found, share(status == CERTIFIED)), why


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
    "Under IHT the function values converge: f never rises (beyond rounding).",
    "Share of all trials whose loss never rises by more than 16 roundings of max(1, its first value) between recorded "
    "points, or steps with --audit; holds if surely 99 %, with a limit if surely half.",
)
def descent(run: Evidence):
    return never_rises(run, "iht", run.levels)


@QUESTIONS.ask(
    "gradient-descent-converges",
    "III-G",
    "Gradient descent's function values converge for 0 < gamma < 2 / L (here: the dense runs).",
    "Share of the dense trials with gamma < 2 / (upper bound of L) whose loss never rises, as for IHT; holds if surely "
    "99 %, with a limit if surely half.",
)
def dense_descent(run: Evidence):
    if not run.has_dense:
        return "The run has no dense baseline (--no-dense)."
    if not run.has_certificates:
        return run.without_certificates
    gamma, L = (run.values(name, [run.n], "gd", "certificates") for name in ("step_size", "rss_upper"))
    below = (gamma < 2 / L).mean()
    if below < 0.99:
        return (
            f"gamma < 2 / L is certain for {below:.0%} of the dense trials, since L-hat is too small; a run with "
            "--step-size certified would test the claim."
        )
    outcome = never_rises(run, "gd", [run.n])
    if isinstance(outcome, str):
        return outcome
    found, verdict, why = outcome
    return found, verdict, f"gamma < 2 / L for certain in {below:.0%} of the dense trials. {why}"


def never_rises(run: Evidence, method: str, levels: list[int]):
    """The share of trials whose recorded losses never rise: monotone and bounded below, they converge."""
    if run.config.curve_points == 0:
        return "The run recorded no curve (--curve-points 0)."
    rise = run.values("largest_step_rise" if run.config.audit else "max_loss_increase", levels, method)
    first = run.first_losses(levels, method)
    if first.shape != rise.shape:
        first = np.ones(())  # some trials diverged or are unfinished: the stricter test
    rounding = 16 * np.finfo(run.config.precision).eps
    found = share(rise <= rounding * np.maximum(1, first))
    points = "one step" if run.config.audit else f"neighbouring points of {run.config.curve_points}"
    why = f"The largest rise between {points} is {rise.max():.1e} nats, and {(rise == 0).mean():.0%} never rise at all."
    if run.config.audit:
        why = why.replace("between", "over")
    return found, nearly_all(found), why

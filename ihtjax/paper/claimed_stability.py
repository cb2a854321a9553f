"""The claims of the paper's section IV-B and of convergence, judged by a run: Figs. 8, 14, 15, Q4, and the optimum."""

import numpy as np
import pandas as pd

from ihtjax.exact.search import Search
from ihtjax.exact.separation import ATTAINED
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.exact.stability import NONE, STABLE, minimizers_on_support
from ihtjax.exact.symmetry import canonical_support
from ihtjax.paper.evidence import MINIMIZER, Evidence
from ihtjax.paper.verdicts import (
    ALMOST_ALL,
    FAILS,
    HALF,
    HOLDS,
    LEVELS_RULE,
    LIMITED,
    UNDECIDED,
    Questions,
    nearly_all,
    over_levels,
    ruling,
    share,
    spans,
)
from ihtjax.study.summaries import TOLERANCES

QUESTIONS = Questions()


@QUESTIONS.ask(
    "fig15-gradient-almost-zero",
    "IV-B, Fig. 15",
    "The gradient of the trained s = 7 network is almost zero for all of the parameters.",
    "Largest |gradient| over all parameters for init, data and support seeds 21, 42, 84; holds if at most ht_tol, "
    "with a limit if that is so on the support alone.",
)
def trial_gradient(run: Evidence):
    c = run.sparse_trial.result.certificate
    on, off, tol = float(c.grad_on_support), float(c.grad_off_support), run.config.ht_tol
    verdict = HOLDS if max(on, off) <= tol else LIMITED if on <= tol else FAILS
    why = (
        f"It is {on:.1e} on the support and {off:.1e} off it (ht_tol {tol:g}), where nothing asks it to vanish; the "
        "draws behind the seeds are ours."
    )
    return max(on, off), verdict, why


@QUESTIONS.ask(
    "fig15-eq8",
    "IV-B, (8)",
    "The trained s = 7 network satisfies (8), min |theta_S| >= gamma max |gradient off S|.",
    "The margin of (8), left side minus right, for init, data and support seeds 21, 42, 84; holds if at least 0.",
)
def trial_eq8(run: Evidence):
    c = run.sparse_trial.result.certificate
    why = f"The smallest parameter is {float(c.min_on_support):.3f}, the margin {float(c.ht_margin):.3f}."
    return c.ht_margin, HOLDS if c.satisfies_eq8 else FAILS, why


@QUESTIONS.ask(
    "fig15-converged",
    "IV-B, Fig. 15",
    "This shows that IHT has converged to an HT-stable point because it satisfies (8).",
    "Loss of that network minus the infimum over its own support, in nats, by Newton's method; holds if that infimum "
    "is attained by an HT-stable point within 1e-6, with a limit if it is farther off, and does not if no point "
    "attains it or the one that does is not HT-stable.",
)
def trial_converged(run: Evidence):
    trial = run.sparse_trial
    X, y, K = run.split_of(trial.seeds[0])
    theta, search = np.asarray(trial.result.theta, np.float64)[None], Search(SoftmaxRows(X, y, K))
    support = canonical_support(theta != 0, K)
    gap = float((search.rows.loss(theta) - search.infima(support))[0])
    (head,) = minimizers_on_support(search, theta, np.array([trial.result.step_size]), np.array([trial.s]))
    looks = "" if trial.result.certificate.ht_stable else "not "
    looks = f"By its gradient the point is {looks}HT-stable within ht_tol = {run.config.ht_tol:g}"
    if head == NONE:
        exists = search.existence(support[0])
        why = f"the loss has no minimum on its support ({exists}): its parameters grow for ever, ever more slowly"
        return gap, FAILS, f"{looks}; {why}."
    if head != STABLE:
        return gap, FAILS, f"{looks}; the minimum on its support that it heads for is not."
    verdict = HOLDS if gap <= 1e-6 else LIMITED
    return gap, verdict, f"{looks}; its loss lies {gap:.1e} nats above the minimum on its support."


SHARE = (
    "Share of all trials that {}, where those that diverged don't; holds if surely 99 %, with a limit if surely half, "
    "and does not if surely less."
)


@QUESTIONS.ask(
    "eq8-all",
    "IV-B, (8)",
    "The trained network satisfies (8) (here: every trial of every level).",
    SHARE.format("satisfy (8)"),
)
def all_eq8(run: Evidence):
    ended = run.every("ended", run.levels)
    return of_all(ended & run.every("satisfies_eq8", run.levels), run.levels, diverged_text(ended))


@QUESTIONS.ask(
    "ht-stable-all",
    "Q4, IV-B",
    "The IHT sequence converges numerically to an HT-stable point.",
    "Share of all trials with certificates that satisfy (8) with a gradient on the support of at most ht_tol, and "
    "whose support has a minimiser that is HT-stable, where those that diverged don't; holds if surely 99 %, with a "
    "limit if surely half, and does not if surely less. Without certificates: the verdict of the share of all trials, "
    "if it is the same for gradients of at most 1e-3, 1e-4 and 1e-5.",
)
def all_stable(run: Evidence):
    stable = {tol: share(stable_at(run, tol)) for tol in TOLERANCES}
    shares = ", ".join(f"{found.value:.1%} at {tol:.0e}".replace("e-0", "e-") for tol, found in stable.items())
    by_tolerance = f"by the size of gradient that counts as zero, {shares} of the trials look HT-stable"
    if not run.has_certificates:
        verdicts = {nearly_all(found) for found in stable.values()}
        stable_by_name = {f"at {tol:.0e}".replace("e-0", "e-"): stable[tol] for tol in sorted(TOLERANCES)}
        why = f"{by_tolerance[0].upper()}{by_tolerance[1:]}; what they head for is told by certificates"
        if len(verdicts) > 1:
            why += f", and the tolerance alone does not decide it: ihtjax oracle {run.path}"
        why += diverged_text(run.every("ended", run.levels))
        return stable_by_name, verdicts.pop() if len(verdicts) == 1 else UNDECIDED, f"{why}.", by_tolerance
    levels = run.certified_levels
    ended, looks, existence, heads = (
        run.every(name, levels, table="certificates") for name in ("ended", "ht_stable", "existence", MINIMIZER)
    )
    looks, attained = looks & ended, existence == ATTAINED
    without = (looks & ~attained).sum() / max(looks.sum(), 1)
    why = f"{by_tolerance[0].upper()}{by_tolerance[1:]}; {without:.0%} of those that do at {run.config.ht_tol:g} lie on"
    why += f" supports without a minimiser, so they can't be{run.certified_text(len(looks))}{diverged_text(ended)}"
    if pd.isna(heads[ended]).any():
        possible = share(looks & attained)
        verdict = FAILS if nearly_all(possible) == FAILS else UNDECIDED
        why += f". At most {possible.value:.1%} are; whether these are needs certificates that say so, "
        seen = f"{by_tolerance}, and at most {possible.value:.1%} of those with certificates head for a point that is"
        return possible, verdict, f"{why}{run.with_older_certificates}", seen
    found = share(looks & (heads == STABLE))
    seen = f"{by_tolerance}, and {found.value:.1%} of those with certificates head for a point that is"
    return found, ruling(nearly_all, found), f"{why}; {found.value:.1%} head for a point that is.", seen


def stable_at(run: Evidence, tol: float) -> np.ndarray:
    """HT-stability in full ``[N, levels]``, with gradients of at most ``tol`` as zero; see `certify`."""
    names = ("grad_on_support", "grad_off_support", "satisfies_eq8", "n_nonzero", "ended")
    on, off, eq8, size, ended = (run.every(name, run.levels) for name in names)
    return ended & (on <= tol) & np.where(size < np.array(run.levels), off <= tol, eq8)


def diverged_text(ended: np.ndarray) -> str:
    """How many trials diverged and count against a claim, in a clause; empty if none."""
    k = int((~ended).sum())
    return f"; {k:,} diverged, which counts against it" if k else ""


def of_all(holds: np.ndarray, levels: list[int], remark: str = ""):
    """The share of trials ``[N, levels]`` of which something holds, and where it is least."""
    found = share(holds)
    by_level = holds.astype(float).mean(0)
    worst = int(np.argmin(by_level))
    why = f"So do {int(holds.sum()):,} of {holds.size:,} trials"
    if found.value < 1:
        why += f", {found.value:.1%}, fewest at s = {levels[worst]}, {by_level[worst]:.1%}"
    return found, ruling(nearly_all, found), f"{why}{remark}."


@QUESTIONS.ask(
    "fig14-support-moves",
    "IV, Figs. 8 and 14",
    "The set of nonzero parameters at the end is not that of the start.",
    "Number of parameters of the final support that the first one lacks, for init, data and support seeds 21, 42, "
    "84 and s = 7; holds if any.",
)
def trial_support(run: Evidence):
    r = run.sparse_trial.result
    new = int(((r.theta != 0) & (r.theta0 == 0)).sum())
    why = f"{new} of {int(r.certificate.n_nonzero)} are new; the support changed at {int(r.n_support_changes):,} steps."
    return new, HOLDS if new else FAILS, why


@QUESTIONS.ask(
    "support-moves-all",
    "IV, Figs. 7, 8 and 14",
    "IHT learns the position of the nonzero parameters: the support moves (here: of every trial).",
    SHARE.format("end on another support than the first"),
    "theta0",
)
def all_supports(run: Evidence):
    return of_all(run.supports_moved, run.levels, diverged_text(run.every("ended", run.levels)))


@QUESTIONS.ask(
    "sparse-local-minimiser",
    "abstract, IV",
    "IHT consistently converges to a sparse local minimiser.",
    SHARE.format("have s nonzero parameters on a support whose minimum exists, within 1e-6 nats of it"),
)
def local_minimisers(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    levels = run.certified_levels
    x, ended = (run.every(name, levels, table="certificates") for name in ("is_minimiser", "ended"))
    remark = " (where the support separates classes there is no minimiser at all)" + run.certified_text(len(x))
    remark += diverged_text(ended)
    return *of_all(x, levels, remark), f"{x.mean():.1%} of the ends are sparse local minimisers within 1e-6 nats"


@QUESTIONS.ask(
    "right-support",
    "abstract, III",
    "IHT accurately identifies the locations of the nonzero parameters.",
    "Number of levels at which 99 % of the trials end on a support that is a best one for their split, by search of "
    "all supports; " + LEVELS_RULE.format("a share of half"),
)
def best_supports(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    levels = [s for s in run.certified_levels if s < run.n]
    best, ended = (run.every(name, levels, table="certificates") for name in ("best_support", "ended"))
    searched = pd.notna(best).all(axis=1)
    if not searched.any():
        return f"The certificates were made without a search of all supports; make them with: ihtjax oracle {run.path}"
    x = best[searched].astype(bool) & ended[searched]
    judged = over_levels(x, x, ALMOST_ALL, HALF)
    at = dict(zip(levels, x.mean(0)))
    listed = ", ".join(f"{by:.0%} at s = {s}" for s, by in at.items())
    parts = (("surely half", judged.loosely), ("surely less than half", judged.not_even))
    said = [f"; {name} at s = {spans(np.array(levels)[mask].tolist())}" for name, mask in parts if mask.any()]
    why = f"The shares are {listed}{''.join(said)}{diverged_text(ended[searched])}"
    low, high = min(at, key=at.__getitem__), max(at, key=at.__getitem__)
    seen = f"from {at[low]:.0%} (s = {low}) to {at[high]:.0%} (s = {high}) of them have a best support"
    return {f"of {len(levels)} levels": judged.found}, judged.ruling, f"{why}{run.certified_text(len(x))}.", seen


@QUESTIONS.ask(
    "dense-minimiser-exists",
    "I, (2) and (3)",
    "The dense problem has a minimiser theta*, to which the sparse one is compared.",
    "Share of splits whose dense infimum is attained; holds if surely 99 %, with a limit if surely half, and does not "
    "if surely less.",
    "oracle",
)
def dense_minimisers(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    x = run.every("existence", [run.n], "gd", "certificates") == ATTAINED
    found = share(x)
    why = f"It is attained on {int(x.sum()):,} of {x.size:,} splits"
    if not x.all():
        why += "; on the others the loss can fall for ever"
        loss = run.values("loss", [run.n], method="gd", table="certificates")
        why += f" (its median after the last step is {np.median(loss):.3f})" if len(loss) else ""
    seen = f"the dense problem has a minimiser on {int(x.sum()):,} of {x.size:,} splits"
    return found, ruling(nearly_all, found), f"{why}{run.certified_text(len(x))}.", seen

"""The claims of the paper's section IV-B and of convergence, judged by a run: Figs. 8, 14, 15, Q4, and the optimum."""

import numpy as np

from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, Questions, nearly_all, share

QUESTIONS = Questions()


@QUESTIONS.ask(
    "fig15-gradient-almost-zero",
    "IV-B, Fig. 15",
    "The gradient of the trained s = 7 network is almost zero for all of the parameters.",
    "Largest |gradient| over all parameters for init, data and support seeds 21, 42, 84; holds if at most ht_tol, "
    "with a limit if that is so on the support alone.",
)
def trial_gradient(run: Evidence):
    c = run.figure_trial.result.certificate
    on, off, tol = float(c.grad_on_support), float(c.grad_off_support), run.config.ht_tol
    verdict = HOLDS if max(on, off) <= tol else LIMITED if on <= tol else FAILS
    why = f"It is {on:.1e} on the support and {off:.1e} off it (ht_tol {tol:g}); the draws behind the seeds are ours."
    return max(on, off), verdict, why


@QUESTIONS.ask(
    "fig15-eq8",
    "IV-B, (8)",
    "The trained s = 7 network satisfies (8), min |theta_S| >= gamma max |gradient off S|.",
    "The margin of (8), left side minus right, for init, data and support seeds 21, 42, 84; holds if at least 0 "
    "and the gradient on S is at most ht_tol, with a limit if (8) alone.",
)
def trial_eq8(run: Evidence):
    c = run.figure_trial.result.certificate
    verdict = HOLDS if c.ht_stable else LIMITED if c.satisfies_eq8 else FAILS
    why = f"The smallest parameter is {float(c.min_on_support):.3f}, the margin {float(c.ht_margin):.3f}."
    return c.ht_margin, verdict, why


@QUESTIONS.ask(
    "gradient-almost-zero-all",
    "IV-B, Fig. 15",
    "At the end of IHT the gradient is almost zero for all of the parameters (here: of every s = 7 network).",
    "Share of trials with s = 7 whose largest |gradient| over all parameters is at most ht_tol; holds if surely "
    "99 %, with a limit if surely half.",
)
def all_gradients(run: Evidence):
    why = run.missing([7])
    if why:
        return why
    on, off = (run.values(f"grad_{where}_support", [7]) for where in ("on", "off"))
    found = share(np.maximum(on, off) <= run.config.ht_tol)
    why = (
        f"On the support it is at most {run.config.ht_tol:g} in {(on <= run.config.ht_tol).mean():.1%} of the trials; "
        f"off it the median of the largest entry is {np.median(off):.3f}, and nothing asks that to vanish."
    )
    return found, nearly_all(found), why


SHARE = "Share of all trials that {}; holds if surely 99 %, with a limit if surely half."


@QUESTIONS.ask(
    "eq8-all",
    "IV-B, (8)",
    "The trained network satisfies (8) (here: every trial of every level).",
    SHARE.format("satisfy (8)"),
)
def all_eq8(run: Evidence):
    return of_all(run, run.values("satisfies_eq8", run.levels))


@QUESTIONS.ask(
    "ht-stable-all",
    "Q4, IV-B",
    "The IHT sequence converges numerically to an HT-stable point.",
    SHARE.format("are HT-stable in full, (8) and a gradient on the support of at most ht_tol"),
)
def all_stable(run: Evidence):
    return of_all(run, run.values("ht_stable", run.levels))


def of_all(run: Evidence, holds: np.ndarray, levels: list[int] | None = None, remark: str = ""):
    """The share of trials ``[N, levels]`` of which something holds, and where it is least."""
    levels = levels or run.levels
    found = share(holds)
    by_level = holds.astype(float).mean(0)
    worst = int(np.argmin(by_level))
    why = f"So do {found.value:.1%} of the trials, fewest at s = {levels[worst]}, {by_level[worst]:.1%}{remark}."
    return found, nearly_all(found), why


@QUESTIONS.ask(
    "fig14-support-moves",
    "IV, Figs. 8 and 14",
    "The set of nonzero parameters at the end is not that of the start.",
    "Number of parameters of the final support that the first one lacks, for init, data and support seeds 21, 42, "
    "84 and s = 7; holds if any.",
)
def trial_support(run: Evidence):
    r = run.figure_trial.result
    new = int(((r.theta != 0) & (r.theta0 == 0)).sum())
    why = f"{new} of {int(r.certificate.n_nonzero)} are new; the support changed at {int(r.n_support_changes):,} steps."
    return new, HOLDS if new else FAILS, why


@QUESTIONS.ask(
    "support-moves-all",
    "IV, Figs. 7, 8 and 14",
    "IHT learns the position of the nonzero parameters: the support moves (here: of every trial).",
    "Share of all trials whose final support differs from the first; holds if surely 99 %, with a limit if surely "
    "half.",
)
def all_supports(run: Evidence):
    return of_all(run, run.supports_moved)


@QUESTIONS.ask(
    "sparse-local-minimiser",
    "abstract, IV",
    "IHT consistently converges to a sparse local minimiser.",
    SHARE.format("have s nonzero parameters on a support whose minimum exists, within 1e-6 nats of it"),
)
def local_minimisers(run: Evidence):
    return certified_share(run, "is_minimiser", " (where the support separates classes there is no minimiser at all)")


@QUESTIONS.ask(
    "right-support",
    "abstract, III",
    "IHT accurately identifies the locations of the nonzero parameters.",
    SHARE.format("end on a support that is a best one for their split and level, by search of all supports"),
)
def best_supports(run: Evidence):
    return certified_share(run, "best_support", "")


@QUESTIONS.ask(
    "dense-minimiser-exists",
    "I, (2) and (3)",
    "The dense problem has a minimiser theta*, to which the sparse one is compared.",
    "Share of splits whose dense infimum is attained; holds if surely 99 %, with a limit if surely half.",
)
def dense_minimisers(run: Evidence):
    if not run.has_certificates:
        return run.without_certificates
    x = run.values("existence", [run.n], "gd", "certificates") == "attained"
    found = share(x)
    loss = np.median(run.values("loss", [run.n], "gd", "certificates"))
    why = f"It is attained on {found.value:.1%} of the splits; on the others the loss can fall for ever"
    why += f" (its median after the last step is {loss:.3f})."
    return found, nearly_all(found), why


def certified_share(run: Evidence, column: str, remark: str):
    if not run.has_certificates:
        return run.without_certificates
    levels = [s for s in run.levels if s in run.certified_levels]
    return of_all(run, run.values(column, levels, table="certificates"), levels, remark)

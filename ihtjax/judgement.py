"""Every claim of the paper judged by a run, what that answers of Q1 to Q4, and the paper's slips."""

import os
from typing import NamedTuple

from ihtjax import claimed_numbers, claimed_objective, claimed_results, claimed_stability, claimed_steps
from ihtjax.evidence import Evidence
from ihtjax.verdicts import FAILS, HOLDS, LIMITED, UNDECIDED, Claim


def claims(run_dir: str | os.PathLike) -> list[Claim]:
    """Judge each claim of the paper by a run.

    Each has a statistic and a rule that were fixed before any run was looked at; the verdict follows from the
    statistic's 95 % interval: a percentile bootstrap over triples (Efron 1979, doi:10.1214/aos/1176344552), the exact
    binomial one where all triples agree, or a computation that needs no interval. What depends on the certificates is
    undecided in a run without them.

    Args:
      run_dir: a run, finished or not.

    Returns:
      A list of `Claim`, in the order of the paper.

    Raises:
      InputError: there is no such run, nothing of it is finished, or a file is damaged.

    Example::

      {claim.id: claim.verdict for claim in claims("results/paper")}
    """
    return judge(Evidence(run_dir))


def judge(run: Evidence) -> list[Claim]:
    """The same from evidence that was read already."""
    theory = (*claimed_numbers.QUESTIONS, *claimed_objective.QUESTIONS, *claimed_steps.QUESTIONS)
    levels = [s for s in run.levels if s < run.n]
    results = [*claimed_results.QUESTIONS, *claimed_results.epsilon_questions(levels)]
    found = [question.judge(run) for question in theory]
    for question in (*results, *claimed_stability.QUESTIONS):
        if run.is_papers_data:
            found.append(question.judge(run))
        else:
            found.append(question.undecided(f"The paper's experiments are of Iris, this run is of {run.config.data}."))
    return found


class Answer(NamedTuple):
    """One of the paper's four questions, and what the verdicts answer."""

    question: str
    short: str
    because: list[Claim]


QUESTIONS = (
    (
        "Q1. What are the core assumptions about the objective function?",
        ("rss", "sublevel-sets-bounded", "distinct-values"),
        "Restricted strong smoothness, sublevel sets that are bounded on sparse subspaces, and distinct values of "
        "distinct HT-stable points. ",
    ),
    (
        "Q2. Do these assumptions remain valid during the training of a network?",
        ("rss", "sublevel-sets-bounded", "losses-bounded", "distinct-values", "dense-minimiser-exists"),
        "",
    ),
    (
        "Q3. How can the parameters of the theory be estimated?",
        ("Lhat-upper-bound", "step-size-valid", "f-never-rises", "fig9-step-size-rises", "fig9-more-aggressive"),
        "By the Monte Carlo of III-F, whose inverse is the step size. ",
    ),
    (
        "Q4. Does IHT converge numerically to an HT-stable point?",
        ("ht-stable-all", "eq8-all", "gradient-almost-zero-all", "sparse-local-minimiser", "right-support"),
        "",
    ),
)
# By how many of its claims hold, at least with a limit: all, some, none.
IN_WORDS = {
    HOLDS: "Yes, as far as this run can tell: ",
    LIMITED: "In part: ",
    FAILS: "No: ",
    UNDECIDED: "This run cannot tell: ",
}


def answers(found: list[Claim]) -> list[Answer]:
    """Q1 to Q4 in words, from the verdicts."""
    by_id = {claim.id: claim for claim in found}
    return [
        Answer(question, lead + IN_WORDS[overall(its)] + tally(its) + ".", its)
        for question, ids, lead in QUESTIONS
        for its in [[by_id[id] for id in ids]]
    ]


def overall(its: list[Claim]) -> str:
    """One verdict for several claims: that of all, else with a limit; undecided ones count only if all are."""
    verdicts = {claim.verdict for claim in its} - {UNDECIDED}
    if not verdicts:
        return UNDECIDED
    return verdicts.pop() if len(verdicts) == 1 else LIMITED


def tally(its: list[Claim]) -> str:
    """How many of these claims have each verdict, as in "2 hold, 1 does not hold"."""
    words = {
        HOLDS: ("holds", "hold"),
        LIMITED: ("holds with a limit", "hold with a limit"),
        FAILS: ("does not hold", "do not hold"),
        UNDECIDED: ("cannot be decided", "cannot be decided"),
    }
    counts = {verdict: sum(claim.verdict == verdict for claim in its) for verdict in words}
    parts = [f"{count} {words[verdict][count > 1]}" for verdict, count in counts.items() if count]
    return f"of {len(its)} claims, " + ", ".join(parts)


class Slip(NamedTuple):
    """A slip of the pen in the paper: where, what stands there, and what is meant."""

    where: str
    says: str
    means: str


SLIPS = (
    Slip(
        "I, (3)",
        "min f(theta*) + epsilon <= min f(theta_s*)",
        "The inequality is the wrong way round: f(theta_s*) <= f(theta*) + epsilon.",
    ),
    Slip(
        "III-C, Example 1",
        "S: the coordinates in which exactly one of the two vectors is nonzero",
        "The union of the two supports: coordinates that both hold count too. The text before it says both nonzero, "
        "which is a third set.",
    ),
    Slip(
        "III-C, Example 1",
        "if n + 1 < m, (6) does not hold",
        "n + 1 > m was meant, and (6) holds then too, with L the largest eigenvalue of X'X.",
    ),
    Slip("I, Q4", "the IHT sequence generated by the Alg. 2", "Alg. 1; Alg. 2 is gradient descent."),
    Slip(
        "I and III-G",
        "a step length in (0, 1/L_s], and gamma <= 1/L_2s",
        "Two intervals for one result; Corollary 3 asks for 1/L_2s, (0, 1/L_2s].",
    ),
    Slip(
        "III-A and III-F",
        "L_2s",
        "Two constants of one name: the modulus of (4), which the theory needs, and the Lipschitz constant of (6), "
        "which the Monte Carlo samples.",
    ),
    Slip(
        "IV-A",
        "10,000 steps, and 0.05 as the stopping criterion",
        "Both can't be: runs that stop at 0.05 don't run on. Here all steps are run unless --stop-loss is given.",
    ),
    Slip(
        "IV-B, (8)",
        "the inequality which is the definition of a HT-stable point",
        "(8) is half of it: the gradient on the support must vanish too.",
    ),
    Slip("IV, Fig. 7", "w_44 among the initial parameters", "A network of 4 features and 3 classes has no w_44."),
    Slip("I", "ChatGPT-3", "GPT-3, of 175 billion parameters."),
)

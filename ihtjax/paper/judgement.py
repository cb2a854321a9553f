"""Every claim of the paper judged by a run, what that answers of Q1 to Q4, and the paper's slips."""

import os
from collections.abc import Iterable
from typing import NamedTuple

from ihtjax.errors import check, some_of
from ihtjax.paper import claimed_numbers, claimed_objective, claimed_results, claimed_stability, claimed_steps
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, UNDECIDED, Claim
from ihtjax.sweeps import progress
from ihtjax.sweeps.store.run import RunDirectory

EXPERIMENTS = (*claimed_results.QUESTIONS, *claimed_stability.QUESTIONS)
ALL = (*claimed_numbers.QUESTIONS, *claimed_objective.QUESTIONS, *claimed_steps.QUESTIONS, *EXPERIMENTS)


def claims(
    run_dir: str | os.PathLike, only: Iterable[str] | None = None, show: progress.Silent | None = None
) -> list[Claim]:
    """Judge each claim of the paper by a run.

    Each has a statistic and a rule, fixed in the code and the same for every run; the verdict follows from the
    statistic's 95 % interval: a percentile bootstrap over triples (Efron 1979, doi:10.1214/aos/1176344552), for a share
    that of Clopper and Pearson, or a computation that needs no interval. Several tests of one claim are corrected
    (Holm). What depends on the certificates is undecided in a run without them.

    Args:
      run_dir: a run, finished or not.
      only: ids of claims, such as "fig9-step-size-rises"; all if None.
      show: a progress display; none by default.

    Returns:
      A list of `Claim`, in the order of the paper.

    Raises:
      InputError: there is no such run, nothing of it is finished, or a file is damaged.

    Example::

      {claim.id: claim.verdict for claim in claims("results/paper")}
    """
    show = show or progress.Silent()
    RunDirectory(run_dir).require()
    show.say(f"reading {run_dir}")
    return judge(Evidence(run_dir), only, show)


def judge(
    run: Evidence, only: Iterable[str] | None = None, show: progress.Silent | None = None, theory: bool = True
) -> list[Claim]:
    """The same from evidence that was read already.

    Args:
      run: the evidence.
      only, show: as of `claims`.
      theory: judge what no run decides, too.
    """
    show = show or progress.Silent()
    ids = some_of(*(question.id for question in ALL))
    check("only", only, ids._replace(text="ids of claims, such as those that `claims` returns"))
    wanted = None if only is None else {only} if isinstance(only, str) else set(only)
    skipped = set() if theory else set(claimed_numbers.QUESTIONS)
    asked = [q for q in ALL if (wanted is None or q.id in wanted) and q not in skipped]
    found = []
    for i, question in enumerate(asked, 1):
        show.say(f"claim {i} of {len(asked)}: {question.id}")
        why = run.subject.lacks(*question.needs, *["iris"] * (question in EXPERIMENTS))
        found.append(question.undecided(f"{why[0].upper()}{why[1:]}.") if why else question.judge(run))
    return found


class Answer(NamedTuple):
    """One of the paper's four questions, and what the verdicts answer."""

    question: str
    short: str
    because: list[Claim]


# Question, a lead that no run decides, and the claims that answer it.
QUESTIONS = (
    (
        "Q1. What are the core assumptions about the objective function?",
        "Restricted strong smoothness, sublevel sets that are bounded on sparse subspaces, and distinct values of "
        "distinct HT-stable points; the paper argues for the first two and assumes the third.",
        ("rss", "sublevel-sets-bounded", "distinct-values"),
    ),
    (
        "Q2. Do these assumptions remain valid during the training of a network?",
        "",
        ("rss", "sublevel-sets-bounded", "losses-bounded", "distinct-values", "dense-minimiser-exists"),
    ),
    (
        "Q3. How can the parameters of the theory be estimated?",
        "By the Monte Carlo of III-F, whose inverse is the step size.",
        (
            "six-implies-four",
            "Lhat-upper-bound",
            "step-size-valid",
            "f-never-rises",
            "gradient-descent-step-valid",
            "gradient-descent-converges",
            "fig9-step-size-rises",
            "fig9-more-aggressive",
        ),
    ),
    (
        "Q4. Does IHT converge numerically to an HT-stable point?",
        "",
        ("ht-stable-all", "eq8-all", "fig15-converged", "sparse-local-minimiser", "right-support"),
    ),
)
# What an answer says of a claim on which the run says nothing. Else it quotes what the run shows, `Claim.seen`.
UNKNOWN = {
    "rss": "the loss is restricted strongly smooth",
    "sublevel-sets-bounded": "sublevel sets are bounded",
    "distinct-values": "distinct HT-stable points have distinct values",
    "dense-minimiser-exists": "the dense problem has a minimiser",
    "Lhat-upper-bound": "the estimate is an upper bound",
    "step-size-valid": "the steps are as short as theory asks",
    "f-never-rises": "the loss of IHT never rises",
    "ht-stable-all": "IHT ends at HT-stable points",
    "sparse-local-minimiser": "the ends are sparse local minimisers",
    "right-support": "they have the best support",
}


def answers(found: list[Claim]) -> list[Answer]:
    """Q1 to Q4 in words, from what the run shows."""
    by_id = {claim.id: claim for claim in found}
    return [
        Answer(question, " ".join(filter(None, (lead, in_words([by_id[id] for id in ids])))), [by_id[id] for id in ids])
        for question, lead, ids in QUESTIONS
    ]


def in_words(its: list[Claim]) -> str:
    """What is seen of those of the claims that have words, one after another; what the run can't tell last."""
    its = [claim for claim in its if claim.id in UNKNOWN]
    parts = [claim.seen for claim in its if claim.seen]
    unknown = [UNKNOWN[claim.id] for claim in its if not claim.seen]
    if unknown:
        parts.append("this run cannot tell whether " + " nor whether ".join(unknown))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


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
        "IV-B, (8)",
        "the inequality which is the definition of a HT-stable point",
        "(8) is half of it: the gradient on the support must vanish too.",
    ),
    Slip(
        "abstract",
        "necessary conditions for the convergence",
        "Sufficient: convergence is proved under them, not shown to need them.",
    ),
    Slip(
        "III-F",
        "identify the largest L_2s that does not cause a violation for (4)",
        "The smallest: every larger one satisfies (4) as well.",
    ),
    Slip(
        "III and IV, Figs. 2 and 8",
        "w_42 in the sparse network, w_34 in its start",
        "With 4 features and 3 classes w_42 has the feature first and w_34 the class. Here the class comes first, "
        "w11 .. w34.",
    ),
    Slip("IV, Fig. 7", "w_44 among the initial parameters", "A network of 4 features and 3 classes has no w_44."),
    Slip("I", "ChatGPT-3", "GPT-3, of 175 billion parameters."),
)

"""Sparse neural networks by iterative hard thresholding, thousands at a time.

Public names are imported when first used, so that ``import ihtjax`` and ``ihtjax --help`` stay fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # editors and type checkers see through these; a test holds them against the table
    from ihtjax.errors import InputError as InputError
    from ihtjax.exact.bounds import Bounds as Bounds
    from ihtjax.exact.bounds import glm_bounds as glm_bounds
    from ihtjax.exact.bounds import softmax_bounds as softmax_bounds
    from ihtjax.exact.bounds import squared_error_bounds as squared_error_bounds
    from ihtjax.exact.networks import canonical_network as canonical_network
    from ihtjax.exact.oracle import best_subset as best_subset
    from ihtjax.exact.oracle import best_subsets as best_subsets
    from ihtjax.exact.search import BestSubset as BestSubset
    from ihtjax.exact.separation import existence as existence
    from ihtjax.exact.symmetry import canonical_parameters as canonical_parameters
    from ihtjax.exact.symmetry import canonical_support as canonical_support
    from ihtjax.paper.drawings import drawn as drawn
    from ihtjax.paper.drawings import figures as figures
    from ihtjax.paper.judgement import claims as claims
    from ihtjax.paper.page import report as report
    from ihtjax.paper.verdicts import Claim as Claim
    from ihtjax.problems.base import Problem as Problem
    from ihtjax.problems.supervised import Supervised as Supervised
    from ihtjax.solvers.algorithms import Solution as Solution
    from ihtjax.solvers.algorithms import iht as iht
    from ihtjax.solvers.algorithms import keep_largest as keep_largest
    from ihtjax.solvers.algorithms import solve as solve
    from ihtjax.solvers.base import Iterate as Iterate
    from ihtjax.solvers.base import Objective as Objective
    from ihtjax.solvers.base import Solver as Solver
    from ihtjax.solvers.certificate import Certificate as Certificate
    from ihtjax.solvers.certificate import certify as certify
    from ihtjax.solvers.iht import iht_step as iht_step
    from ihtjax.solvers.lipschitz import estimate_lipschitz as estimate_lipschitz
    from ihtjax.solvers.threshold import hard_threshold as hard_threshold
    from ihtjax.study.atlas import Atlas as Atlas
    from ihtjax.study.atlas import build_atlas as build_atlas
    from ihtjax.study.optimality import certify_run as certify_run
    from ihtjax.study.starts import restart_budget as restart_budget
    from ihtjax.study.summaries import gaps as gaps
    from ihtjax.study.summaries import summary as summary
    from ihtjax.sweeps.config import SweepConfig as SweepConfig
    from ihtjax.sweeps.runner import sweep as sweep
    from ihtjax.sweeps.single import trial_inputs as trial_inputs
    from ihtjax.sweeps.store.reading import load as load

_HOMES = {
    "Atlas": "study.atlas",
    "BestSubset": "exact.search",
    "Bounds": "exact.bounds",
    "Certificate": "solvers.certificate",
    "Claim": "paper.verdicts",
    "InputError": "errors",
    "Iterate": "solvers.base",
    "Objective": "solvers.base",
    "Problem": "problems.base",
    "Solution": "solvers.algorithms",
    "Solver": "solvers.base",
    "Supervised": "problems.supervised",
    "SweepConfig": "sweeps.config",
    "best_subset": "exact.oracle",
    "best_subsets": "exact.oracle",
    "build_atlas": "study.atlas",
    "canonical_network": "exact.networks",
    "canonical_parameters": "exact.symmetry",
    "canonical_support": "exact.symmetry",
    "certify": "solvers.certificate",
    "certify_run": "study.optimality",
    "claims": "paper.judgement",
    "estimate_lipschitz": "solvers.lipschitz",
    "drawn": "paper.drawings",
    "existence": "exact.separation",
    "figures": "paper.drawings",
    "gaps": "study.summaries",
    "glm_bounds": "exact.bounds",
    "hard_threshold": "solvers.threshold",
    "iht": "solvers.algorithms",
    "iht_step": "solvers.iht",
    "keep_largest": "solvers.algorithms",
    "load": "sweeps.store.reading",
    "report": "paper.page",
    "restart_budget": "study.starts",
    "softmax_bounds": "exact.bounds",
    "solve": "solvers.algorithms",
    "squared_error_bounds": "exact.bounds",
    "summary": "study.summaries",
    "sweep": "sweeps.runner",
    "trial_inputs": "sweeps.single",
}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'ihtjax' has no attribute {name!r}")
        return getattr(importlib.import_module(f"ihtjax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

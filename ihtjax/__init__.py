"""Sparse neural networks by iterative hard thresholding, thousands at a time.

Public names are imported when first used, so that ``import ihtjax`` and ``ihtjax --help`` stay fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # editors and type checkers see through these; a test holds them against the table
    from ihtjax.algorithms import Solution as Solution
    from ihtjax.algorithms import iht as iht
    from ihtjax.algorithms import iht_step as iht_step
    from ihtjax.algorithms import keep_largest as keep_largest
    from ihtjax.algorithms import solve as solve
    from ihtjax.certificate import Certificate as Certificate
    from ihtjax.certificate import certify as certify
    from ihtjax.config import SweepConfig as SweepConfig
    from ihtjax.errors import InputError as InputError
    from ihtjax.exact.atlas import Atlas as Atlas
    from ihtjax.exact.atlas import build_atlas as build_atlas
    from ihtjax.exact.bounds import Bounds as Bounds
    from ihtjax.exact.bounds import softmax_bounds as softmax_bounds
    from ihtjax.exact.bounds import squared_error_bounds as squared_error_bounds
    from ihtjax.exact.optimality import certify_run as certify_run
    from ihtjax.exact.oracle import BestSubset as BestSubset
    from ihtjax.exact.oracle import best_subset as best_subset
    from ihtjax.exact.oracle import best_subsets as best_subsets
    from ihtjax.exact.separation import existence as existence
    from ihtjax.exact.starts import restart_budget as restart_budget
    from ihtjax.exact.symmetry import canonical_parameters as canonical_parameters
    from ihtjax.exact.symmetry import canonical_support as canonical_support
    from ihtjax.lipschitz import estimate_lipschitz as estimate_lipschitz
    from ihtjax.paper.drawings import drawn as drawn
    from ihtjax.paper.drawings import figures as figures
    from ihtjax.paper.judgement import claims as claims
    from ihtjax.paper.page import report as report
    from ihtjax.paper.verdicts import Claim as Claim
    from ihtjax.reading import load as load
    from ihtjax.single import trial_inputs as trial_inputs
    from ihtjax.summaries import gaps as gaps
    from ihtjax.summaries import summary as summary
    from ihtjax.sweeps import sweep as sweep
    from ihtjax.threshold import hard_threshold as hard_threshold

_HOMES = {
    "Atlas": "exact.atlas",
    "BestSubset": "exact.oracle",
    "Bounds": "exact.bounds",
    "Certificate": "certificate",
    "Claim": "paper.verdicts",
    "InputError": "errors",
    "Solution": "algorithms",
    "SweepConfig": "config",
    "best_subset": "exact.oracle",
    "best_subsets": "exact.oracle",
    "build_atlas": "exact.atlas",
    "canonical_parameters": "exact.symmetry",
    "canonical_support": "exact.symmetry",
    "certify": "certificate",
    "certify_run": "exact.optimality",
    "claims": "paper.judgement",
    "estimate_lipschitz": "lipschitz",
    "drawn": "paper.drawings",
    "existence": "exact.separation",
    "figures": "paper.drawings",
    "gaps": "summaries",
    "hard_threshold": "threshold",
    "iht": "algorithms",
    "iht_step": "algorithms",
    "keep_largest": "algorithms",
    "load": "reading",
    "report": "paper.page",
    "restart_budget": "exact.starts",
    "softmax_bounds": "exact.bounds",
    "solve": "algorithms",
    "squared_error_bounds": "exact.bounds",
    "summary": "summaries",
    "sweep": "sweeps",
    "trial_inputs": "single",
}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'ihtjax' has no attribute {name!r}")
        return getattr(importlib.import_module(f"ihtjax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

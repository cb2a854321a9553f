"""Sparse neural networks by iterative hard thresholding, thousands at a time.

Public names are imported when first used, so that ``import ihtjax`` and ``ihtjax --help`` stay fast.
"""

import importlib

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


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'ihtjax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ihtjax.{_HOMES[name]}"), name)


def __dir__():
    return __all__

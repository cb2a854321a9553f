"""Sparse neural networks by iterative hard thresholding, thousands at a time.

Public names are imported when first used, so that ``import ihtjax`` and ``ihtjax --help`` stay fast.
"""

import importlib

_HOMES = {
    "Atlas": "atlas",
    "BestSubset": "oracle",
    "Bounds": "bounds",
    "Certificate": "certificate",
    "Claim": "verdicts",
    "InputError": "errors",
    "Solution": "algorithms",
    "SweepConfig": "config",
    "best_subset": "oracle",
    "best_subsets": "oracle",
    "build_atlas": "atlas",
    "canonical_parameters": "symmetry",
    "canonical_support": "symmetry",
    "certify": "certificate",
    "certify_run": "optimality",
    "claims": "judgement",
    "estimate_lipschitz": "lipschitz",
    "drawn": "drawings",
    "existence": "separation",
    "figures": "drawings",
    "gaps": "summaries",
    "hard_threshold": "threshold",
    "iht": "algorithms",
    "iht_step": "algorithms",
    "keep_largest": "algorithms",
    "load": "store",
    "report": "page",
    "restart_budget": "starts",
    "softmax_bounds": "bounds",
    "solve": "algorithms",
    "squared_error_bounds": "bounds",
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

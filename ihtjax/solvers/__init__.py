"""How to minimise under a sparsity constraint: functions of arrays."""

"""How far a sparse solution is from the best possible one: bounds, restricted optima, the oracle, the atlas."""

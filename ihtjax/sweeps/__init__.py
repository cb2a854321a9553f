"""Many trials: configuration, draws, trials, programs, tables."""

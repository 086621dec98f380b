"""Training with differential privacy: what leaves a run tells little about any one example."""

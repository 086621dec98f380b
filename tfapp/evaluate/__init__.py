"""What a model is worth: pure functions from labels and outputs to plain, JSON-able numbers.

Every number that a decision may rest on is a score: `{"value", "low", "high"}` with the ends of a 95 %
bootstrap interval, and a `"reason"` where the value or the interval cannot be had (both are then None).
"""

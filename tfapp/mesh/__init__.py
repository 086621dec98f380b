"""Model and hybrid parallel training: the weights of large layers shared out over devices, and batches over groups of these."""

"""Private training: DP-SGD (Abadi et al. 2016, arXiv:1607.00133), with what it proves and what it keeps of it."""

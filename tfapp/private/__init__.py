"""Training that gives away little of any one example, and says how little: DP-SGD (Abadi et al. 2016, arXiv:1607.00133)."""

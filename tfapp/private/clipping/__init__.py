"""The sum of clipped gradients, an example each, for DP-SGD: exact, and for little more than the plain gradient.

One-pass book-keeping: Bu et al., «Differentially private optimization on large model at small cost» (2022,
arXiv:2210.00038); ghost norms: Goodfellow (2015, arXiv:1510.01799), Li et al. (2021, arXiv:2110.05679).
"""

from tfapp.private.clipping.examine import Examined, examine
from tfapp.private.clipping.sums import Sums, clipped

__all__ = ["Examined", "Sums", "clipped", "examine"]

"""What a share of some images says of all such images: Wilson's interval. Standard library only."""

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(hits: int, images: int) -> tuple[float, float]:
    """Return the middle of the interval of a share, and how far it reaches to each side.

    It holds what it promises for few images and for shares near 1, too. Source: E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927).

    Parameters
    ----------
    hits : int
        0 to `images`.
    images : int
        At least 1.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (hits + z**2 / 2) / (images + z**2)
    margin = z * math.sqrt(hits * (images - hits) / images + z**2 / 4) / (images + z**2)
    return middle, margin

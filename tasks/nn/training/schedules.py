"""How the learning rate changes during training.

A schedule gives the factor by which the base learning rate is multiplied, as a function of the
share of training that is done, from 0 to 1.
"""

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]


def constant(done: float) -> float:
    """Return 1 throughout."""
    return 1.0


def step(done: float, *, drops: int = 3, factor: float = 0.1) -> float:
    """Return 1, multiplied by `factor` after each of `drops` equal stretches but the last."""
    return factor ** min(int(done * drops), drops - 1)


def cosine(done: float) -> float:
    """Fall from 1 to 0 along half a cosine.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.
    """
    return (1 + cos(pi * done)) / 2


def one_cycle(done: float, *, rise: float = 0.3, start: float = 0.04) -> float:
    """Rise from `start` to 1 in the first `rise` of training, then fall to nearly 0.

    Both along half a cosine. Source: Smith & Topin 2018, arXiv:1708.07120.
    """
    if done < rise:
        return 1 - (1 - start) * cosine(done / rise)
    return cosine((done - rise) / (1 - rise))


def warm_up(schedule: Schedule, share: float) -> Schedule:
    """Return `schedule` with its first `share` of training spent rising evenly from 0 to 1.

    The rest of training passes through the whole of `schedule`. Source: Goyal et al. 2017,
    arXiv:1706.02677, section 2.2.
    """
    if not 0 <= share < 1:
        message = f"Warm-up takes a share of training from 0 to below 1; found {share}."
        raise ValueError(message)

    def warmed(done: float) -> float:
        if done < share:
            return done / share
        return schedule((done - share) / (1 - share))

    return warmed


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
}

"""A year of nights at the gate, 200 times, the rules as they were beside those of now.

    python benchmarks/gate.py --data DIR        # half an hour on one core; again: minutes

What models answer is real (`gate_models.py`): of MNIST's test images 1,250 are drawn for a test set
(1,000 to compare by, and a reserve), and by the others nothing is decided. Each night one model
challenges the champion, by `digitflow.tasks.gate` itself. Data is MNIST's four files, by default
from ``../shared/data/mnist`` beside the project.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.kernels import use_own_kernels  # noqa: E402

use_own_kernels(1)

import numpy as np  # noqa: E402 - by now OpenBLAS is told which kernels to use
from numpy.typing import NDArray  # noqa: E402

from benchmarks.gate_models import SHIFT, Pool, load_pool  # noqa: E402
from digitflow.tasks.gate.data import champion_holds, level_holds  # noqa: E402
from digitflow.tasks.gate.reserve import ONE_IN, expect  # noqa: E402
from digitflow.tasks.gate.rules import Rules, also_better, decide, mcnemar  # noqa: E402

NIGHTS, YEARS = 365, 200
TEST_IMAGES = 1_250
RULES = Rules(min_improvement=0.0, max_class_drop=0.02, floor=0.5)
NAMES = tuple("0123456789")

# Challenger's and champion's answers and the labels → whether the challenger is promoted.
Rule = Callable[[NDArray[Any], NDArray[Any] | None, NDArray[Any]], bool]


def as_it_was(after: NDArray[Any], before: NDArray[Any] | None, labels: NDArray[Any]) -> bool:
    """The rules of digitflow before: any improvement, and no class falls by more than 0.02."""
    right = after == labels
    if right.mean() < RULES.floor or before is None:
        return bool(right.mean() >= RULES.floor)
    was_right = before == labels
    images = np.maximum(np.bincount(labels, minlength=10), 1)
    hits = np.bincount(labels[right], minlength=10) / images
    theirs = np.bincount(labels[was_right], minlength=10) / images
    return bool(right.sum() > was_right.sum() and (theirs - hits).max() <= 0.02 + 1e-9)


def significant(after: NDArray[Any], before: NDArray[Any] | None, labels: NDArray[Any]) -> bool:
    """What many would ask for: McNemar's test at 0.05."""
    right = after == labels
    if before is None:
        return bool(right.mean() >= RULES.floor)
    was_right = before == labels
    gained, lost = int((right & ~was_right).sum()), int((~right & was_right).sum())
    return gained > lost and mcnemar(gained, lost) < 0.05


def of_now(after: NDArray[Any], before: NDArray[Any] | None, labels: NDArray[Any]) -> bool:
    """The gate itself."""
    theirs = None if before is None else _outputs(before)
    return decide(_outputs(after), theirs, labels, NAMES, RULES).promoted


RULE_SETS: dict[str, Rule] = {"as it was": as_it_was, "now": of_now, "McNemar 0.05": significant}


@dataclass
class Year:
    """What came of a year of nights.

    Attributes
    ----------
    promotions, worse
        How many, the first model apart, and how many of them were worse on fresh images.
    accuracy
        The last champion's on fresh images.
    flattered
        By how much its accuracy on the test images exceeds that.
    within
        Whether it lay within what was expected at its promotion; None where nothing was.
    """

    promotions: int = 0
    worse: int = 0
    accuracy: float = 0.0
    flattered: float = 0.0
    within: bool | None = None


def play(
    answers: NDArray[Any],
    labels: NDArray[Any],
    nights: Sequence[int],
    rule: Rule,
    rng: np.random.Generator,
    test_images: int,
    *,
    reserve: bool,
) -> Year:
    """Let one model a night challenge the champion.

    Parameters
    ----------
    answers
        Of all models on all images, shape (models, images).
    nights
        Which model challenges, night by night.
    reserve
        Whether a part of the test images is kept out of comparisons.
    """
    order = rng.permutation(len(labels))
    test, fresh = order[:test_images], order[test_images:]
    kept = len(test) // ONE_IN if reserve else 0  # drawn at random, as by their bytes
    judged, held_back = test[kept:], test[:kept]
    true = (answers[:, fresh] == labels[fresh]).mean(axis=1)
    year, champion = Year(), None
    for model in nights:
        if model == champion:
            continue
        before = None if champion is None else answers[champion, judged]
        if rule(answers[model, judged], before, labels[judged]):
            if champion is not None:
                year.promotions += 1
                year.worse += true[model] < true[champion]
            champion = model
    if champion is None:  # nobody reached the floor
        return year
    year.accuracy = float(true[champion])
    year.flattered = float((answers[champion, judged] == labels[judged]).mean()) - year.accuracy
    expected = expect(answers[champion, held_back] == labels[held_back])
    year.within = None if expected is None else year.accuracy in expected
    return year


@dataclass
class Scenario:
    """Years of one kind: which models challenge, night by night."""

    title: str
    answers: NDArray[Any]
    nights: Callable[[np.random.Generator], Sequence[int]]
    years: dict[str, list[Year]] = field(default_factory=dict)

    def run(self, labels: NDArray[Any], count: int, test_images: int) -> None:
        """Play the years; every rule sees the same nights and the same test images."""
        for name, rule in RULE_SETS.items():
            self.years[name] = []
            for seed in range(count):
                rng = np.random.default_rng(seed)
                nights = self.nights(rng)
                played = play(
                    self.answers, labels, nights, rule, rng, test_images, reserve=name == "now"
                )
                self.years[name].append(played)

    def table(self) -> str:
        """Return the table of the scenario as Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            "| rules | promotions a year | of these worse | accuracy on fresh images "
            "| flattered by, points | within what was expected |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, years in self.years.items():
            mean = {
                each: np.mean([getattr(year, each) for year in years])
                for each in ("promotions", "worse", "accuracy", "flattered")
            }
            within = [year.within for year in years if year.within is not None]
            held = f"{100 * within.count(True) / len(within):.0f} % of years" if within else "–"
            lines.append(
                f"| {name} | {mean['promotions']:.2f} | {mean['worse']:.2f} "
                f"| {100 * mean['accuracy']:.2f} % | {100 * mean['flattered']:.2f} | {held} |"
            )
        return "\n".join(lines)

    def mean(self, rules: str, what: str) -> float:
        """Return a number of the years under some rules."""
        return float(np.mean([getattr(year, what) for year in self.years[rules]]))


@dataclass
class Feed:
    """Years in which each night's test images are others, and the feed goes wrong.

    Attributes
    ----------
    title
        What happens.
    answers
        Of all models, shape (kinds of images, models, images).
    nights
        Night by night: which model challenges, which kind its test images are, and which share of
        their labels is wrong.
    """

    title: str
    answers: NDArray[Any]
    nights: Callable[[np.random.Generator], Sequence[tuple[int, int, float]]]
    rows: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    def run(self, labels: NDArray[Any], count: int, test_images: int) -> None:
        """Play the years, by the rules as they were and by those of now."""
        for name in ("as it was", "now"):
            self.rows[name] = []
            for seed in range(count):
                rng = np.random.default_rng(seed)
                nights = self.nights(rng)
                played = self._play(labels, nights, rng, test_images, guarded=name == "now")
                self.rows[name].append(played)

    def _play(
        self,
        labels: NDArray[Any],
        nights: Sequence[tuple[int, int, float]],
        rng: np.random.Generator,
        test_images: int,
        *,
        guarded: bool,
    ) -> tuple[float, ...]:
        """Return promotions, worse ones, true and reported accuracy, and nights held."""
        true = (self.answers[0] == labels).mean(axis=1)
        promotions = worse = held = 0
        champion, own, pinned, best, last = -1, 0, (labels, labels), (0, 1), 0.0
        for model, kind, noise in nights:
            shown = rng.choice(len(labels), test_images, replace=False)
            said = labels[shown]
            wrong = rng.random(test_images) < noise
            said = np.where(wrong, (said + rng.integers(1, 10, test_images)) % 10, said)
            after, before = self.answers[kind, model, shown], self.answers[kind, champion, shown]
            right, was_right = int((after == said).sum()), int((before == said).sum())
            if champion < 0:
                champion, own, pinned = model, kind, (shown, said)
                best = (right, test_images)
                continue
            if guarded:
                images, named = pinned
                theirs = int((self.answers[own, champion, images] == named).sum())
                checks = (
                    champion_holds(was_right, test_images, theirs, test_images),
                    level_holds(max(right, was_right), test_images, *best),
                )
                if not all(each.met for each in checks):
                    held += 1
                    continue
                one, two = (_outputs(self.answers[own, each, images]) for each in (model, champion))
                passes = (
                    of_now(after, before, said) and also_better(one, two, named, NAMES, RULES).met
                )
            else:
                passes = as_it_was(after, before, said)
            if passes:
                promotions += 1
                worse += true[model] < true[champion]
                champion, pinned, own = model, (shown, said), kind
                best = max(best, (right, test_images))
            if not guarded:
                last = (right if passes else was_right) / test_images
        if guarded:
            last = float((self.answers[own, champion, pinned[0]] == pinned[1]).mean())
        return promotions, worse, float(true[champion]), float(last), held

    def table(self) -> str:
        """Return the table as Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            "| rules | promotions a year | of these worse | accuracy on clean images | reported "
            "| nights held |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, rows in self.rows.items():
            promotions, worse, accuracy, reported, held = np.mean(rows, axis=0)
            lines.append(
                f"| {name} | {promotions:.1f} | {worse:.2f} | {100 * accuracy:.2f} % "
                f"| {100 * reported:.2f} % | {held:.1f} |"
            )
        return "\n".join(lines)


def noise(pool: Pool) -> Feed:
    """Each night a few more labels are wrong, a tenth of all after a year."""
    levels = np.array(sorted(pool.noisy))
    models = len(pool.noisy[float(levels[0])])
    share = np.linspace(0, levels[-1], NIGHTS)
    nearest = np.abs(share[:, None] - levels[None, :]).argmin(axis=1)
    answers = np.concatenate([pool.noisy[float(level)] for level in levels])[None]
    return Feed(
        "Label noise that grows from 0 to 10 % in training and test labels",
        answers,
        lambda rng: [
            (int(level * models + rng.integers(models)), 0, float(wrong))
            for level, wrong in zip(nearest, share, strict=True)
        ],
    )


def shift(pool: Pool) -> Feed:
    """From some night on all images are shifted."""
    answers = np.stack(
        [
            np.concatenate([pool.equal, pool.shifted_straight]),
            np.concatenate([pool.equal_shifted, pool.shifted]),
        ]
    )
    straight, moved = len(pool.equal), len(pool.shifted)

    def nights(rng: np.random.Generator) -> list[tuple[int, int, float]]:
        since = int(rng.integers(NIGHTS // 10, NIGHTS))
        return [
            (int(rng.integers(straight)), 0, 0.0)
            if night < since
            else (straight + int(rng.integers(moved)), 1, 0.0)
            for night in range(NIGHTS)
        ]

    return Feed(
        f"Training and test images shifted by {SHIFT} pixels from some night on", answers, nights
    )


def _outputs(answers: NDArray[Any]) -> NDArray[np.float32]:
    return np.eye(10, dtype=np.float32)[answers]


def equal(pool: Pool) -> Scenario:
    """Models that differ in their seed alone."""
    models = len(pool.equal)
    return Scenario(
        "Equal models",
        pool.equal,
        lambda rng: rng.integers(0, models, NIGHTS).tolist(),
    )


def growing(pool: Pool) -> Scenario:
    """Each night there are more training images."""
    sizes = np.array(sorted(pool.growing))
    models = len(pool.growing[int(sizes[0])])
    night = np.linspace(sizes[0], sizes[-1], NIGHTS)
    nearest = np.abs(np.log(night[:, None] / sizes[None, :])).argmin(axis=1)
    return Scenario(
        f"Growing data: {sizes[0]:,} to {sizes[-1]:,} training images",
        np.concatenate([pool.growing[int(size)] for size in sizes]),
        lambda rng: (nearest * models + rng.integers(0, models, NIGHTS)).tolist(),
    )


def main() -> int:
    """Play, print the tables, and say which bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data" / "mnist")
    parser.add_argument("--years", type=int, default=YEARS)
    parser.add_argument("--seeds", type=int, default=160, help="equal models to train")
    parser.add_argument("--sizes", type=int, default=12, help="sizes of the growing training set")
    parser.add_argument("--test-images", type=int, default=TEST_IMAGES)
    given = parser.parse_args()
    pool = load_pool(given.data, seeds=given.seeds, growing=given.sizes)
    scenarios = still, grown = equal(pool), growing(pool)
    feeds = noisy, shifted = noise(pool), shift(pool)
    for each in (*scenarios, *feeds):
        each.run(pool.labels, given.years, given.test_images)
        print(each.table(), end="\n\n", flush=True)
    best = max(grown.mean(name, "accuracy") for name in RULE_SETS)
    within = [year.within for each in scenarios for year in each.years["now"]]
    bars = {
        "equal models: at most 1.2 promotions a year": still.mean("now", "promotions") <= 1.2,
        "equal models: at most 0.4 worse ones": still.mean("now", "worse") <= 0.4,
        "growing data: within 0.1 point of the best": best - grown.mean("now", "accuracy") <= 1e-3,
        "expected accuracy holds in 93 % of years": within.count(True) >= 0.93 * len(within),
        "noise that grows is held before the year is over": min(row[4] for row in noisy.rows["now"])
        > 0,
        "shifted images are never promoted": min(row[2] for row in shifted.rows["now"]) > 0.5,
    }
    for bar, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {bar}")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

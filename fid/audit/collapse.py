"""H11: mode collapse: classes or variety lost while single images are good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.finding import MATERIAL, HypothesisTest, Numbers, Outcome
from fid.audit.sampling import SIGNIFICANT, condensed, jackknife
from fid.control import Rows, measure, subset
from fid.neighbours import precision_recall

ROWS = 1000  # of a side: precision and recall depend on it, so both sides of a comparison have as many
REPEATS = 4
NEIGHBOURS = 3
REMEDY = "check the generator (training, truncation, temperature) and the classes that were asked for"


def look(evidence: Evidence) -> Outcome:
    """Compare shares of classes, and variety at equal quality, with those of real images.

    A fault of the images moves classes and variety too, so where one was found, what is said of them is said
    after both sides were damaged alike.
    """
    outcome = _compare(evidence)
    if outcome.verdict != "found" or not evidence.image_faults:
        return outcome
    generated, reference = evidence.levelled
    if generated is evidence.generated:
        return replace(outcome, verdict="remains", reason=f"{outcome.reason}; the images' fault may do that")
    again = _compare(replace(evidence, generated=generated, reference=reference))
    return replace(again, reason=f"{again.reason}, when both sides' images are damaged alike")


def _compare(evidence: Evidence) -> Outcome:
    numbers: Numbers = {}
    outcomes = [found for found in (_classes(evidence, numbers), _variety(evidence, numbers)) if found]
    found = [outcome for outcome in outcomes if outcome.verdict == "found"]
    if found:
        return max(found, key=lambda outcome: outcome.contribution or 0.0)
    if outcomes:
        return outcomes[0]
    if "recall" not in numbers:
        return Outcome("remains", "too few features to measure variety", numbers)
    return Outcome("excluded", "classes and variety are those of the reference", numbers)


def _classes(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """Shares of predicted classes against the reference's: chi-square, and the points they account for."""
    ours, theirs = evidence.generated.logits, evidence.reference.logits
    if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
        return None
    first, second = ours.argmax(axis=1), theirs.argmax(axis=1)
    classes = ours.shape[1]
    counts = np.bincount(first, minlength=classes), np.bincount(second, minlength=classes)
    shares = counts[0] / len(first), counts[1] / len(second)
    pooled = (counts[0] + counts[1]) / (len(first) + len(second))
    there = pooled > 0
    variance = pooled * (1 / len(first) + 1 / len(second))
    chi_square = float((np.square(shares[0] - shares[1])[there] / variance[there]).sum())
    degrees = int(there.sum()) - 1
    numbers["shares of classes, total variation"] = float(np.abs(shares[0] - shares[1]).sum() / 2)
    numbers["shares of classes, chi-square"] = chi_square
    numbers["degrees of freedom"] = degrees
    if degrees < 1 or chi_square <= degrees + SIGNIFICANT * np.sqrt(2 * degrees):
        return None
    gain, error = _class_gain(evidence, first, second, shares[0])
    rare = [number for number in range(classes) if shares[0][number] < 0.2 * shares[1][number]]
    reason = "classes are not in the reference's shares"
    if rare:
        reason = f"{len(rare)} of {classes} classes are lost or rare ({', '.join(map(str, rare[:5]))})"
    excess = _own_excess(evidence)
    if gain is None or excess is None:
        return Outcome("remains", reason, numbers, gain, remedy=REMEDY)
    numbers["standard error of the contribution"] = error
    wrong = gain > SIGNIFICANT * error and gain >= MATERIAL * excess and _quality(evidence, numbers)
    return Outcome("found" if wrong else "remains", reason, numbers, gain, False, REMEDY)


def _own_excess(evidence: Evidence) -> float | None:
    """Points over the real control at these numbers, whatever was expected."""
    if evidence.frechet is None or evidence.control is None:
        return None
    return evidence.frechet.distance - evidence.control.mean


def _class_gain(
    evidence: Evidence, first: np.ndarray, second: np.ndarray, shares: np.ndarray
) -> tuple[float | None, float]:
    """Points that vanish when the reference is drawn in the generated shares, and their standard error."""
    rows, reference = evidence.generated.features, evidence.reference.features
    if rows is None or reference is None or rows.shape[1] != reference.shape[1]:
        return None, 0.0
    if not (np.isfinite(rows).all() and np.isfinite(reference).all()):
        return None, 0.0
    own = np.bincount(second, minlength=len(shares))
    weight = np.where(own[second] > 0, shares[second] / np.maximum(own[second], 1), 0.0)
    if weight.sum() == 0:
        return None, 0.0
    generator = np.random.default_rng(evidence.seed)
    drawn = generator.choice(len(reference), len(reference), p=weight / weight.sum())
    alike = condensed(reference[drawn])
    plain = condensed(reference)

    def gain(chosen: np.ndarray) -> float:
        return measure(rows[chosen], plain).distance - measure(rows[chosen], alike).distance

    return gain(np.arange(len(rows))), jackknife(gain, len(rows), evidence.seed)


def _quality(evidence: Evidence, numbers: Numbers) -> bool:
    """Single images are as good as real ones often are: precision at least half of the control's."""
    _variety(evidence, numbers)
    precision, control = numbers.get("precision"), numbers.get("precision, real")
    return precision is None or control is None or float(precision) >= 0.5 * float(control)


def _variety(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """Recall against real images' own, and whether it falls more than precision does."""
    ours, theirs = evidence.generated.finite_features, evidence.reference.finite_features
    if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
        return None
    count = min(ROWS, len(ours), len(theirs) // 2)
    if count < 10 * NEIGHBOURS:
        return None
    generated, real = [], []
    generator = np.random.default_rng(evidence.seed)
    for _ in range(REPEATS):
        order = generator.permutation(len(theirs))
        target, control = theirs[order[:count]], theirs[order[count : 2 * count]]
        drawn = ours[subset(len(ours), count, int(generator.integers(2**31)))]
        generated.append(_scores(drawn, target))
        real.append(_scores(control, target))
    (precision, recall), (real_precision, real_recall) = np.mean(generated, axis=0), np.mean(real, axis=0)
    spread = float(np.std(np.array(real)[:, 1], ddof=1)) + sqrt_binomial(real_recall, count)
    numbers |= {
        "precision": float(precision),
        "recall": float(recall),
        "precision, real": float(real_precision),
        "recall, real": float(real_recall),
        "samples of precision and recall": count,
    }
    lost = 1 - recall / max(real_recall, 1e-9)
    worse = max(0.0, 1 - precision / max(real_precision, 1e-9))
    if real_recall - recall <= SIGNIFICANT * spread or lost <= 2 * worse + SIGNIFICANT * spread:
        return None
    gain = None
    if evidence.frechet is not None and evidence.control is not None:
        gain = evidence.frechet.trace_term - evidence.control.mean
    return Outcome(
        "found",
        f"recall is {recall:.2f} where real images have {real_recall:.2f}, while precision is "
        f"{precision:.2f} ({real_precision:.2f}): variety is lost",
        numbers,
        gain,
        False,
        REMEDY,
    )


def sqrt_binomial(share: float, count: int) -> float:
    """Standard error of a share."""
    return float(np.sqrt(max(share * (1 - share), 1e-4) / count))


def _scores(drawn: Rows, target: Rows) -> tuple[float, float]:
    found = precision_recall(drawn, target, NEIGHBOURS)
    return found.precision, found.recall


TEST = HypothesisTest(
    "H11",
    "mode collapse",
    (frozenset({"generated features", "reference features"}),),
    11,
    look,
)

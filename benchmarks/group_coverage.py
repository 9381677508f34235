"""How often the 95 % interval of two groups of trainings contains the true difference, and how often equal ones differ.

The true difference is known: an image is right if its ease, its affinity to the setting, the luck of the seed and noise
add up to more than 0. Each draw has new images and new seeds.

    python benchmarks/group_coverage.py        # a minute
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from flowers.metrics import groups

DRAWS, ACCURACY, CLASSES = 500, 0.86, 5
EASE, AFFINITY, NOISE = 1.5, 0.35, 0.8  # standard deviations; that of seeds is in SETTINGS
SETTINGS = (  # images, trainings of each group, standard deviation of seeds
    (900, 5, 0.05),
    (900, 3, 0.05),
    (900, 5, 0.2),
    (45, 5, 0.1),
    (6120, 3, 0.05),
)
DIFFERENCES = (0.0, 0.01, 0.02)
RESULT = Path(__file__).parent / "results" / "group_coverage.json"


def draw(rng: np.random.Generator, images: int, trainings: int, luck: float, difference: float) -> list[Any]:
    """Labels, and right or wrong for two settings, float64 (trainings, images) each."""
    labels, ease = np.arange(images) % CLASSES, rng.normal(0, EASE, images)
    total, found = np.sqrt(EASE**2 + AFFINITY**2 + luck**2 + NOISE**2), [labels]
    for accuracy in (ACCURACY, ACCURACY + difference):
        parts = rng.normal(0, AFFINITY, images), rng.normal(0, luck, (trainings, 1))
        score = total * stats.norm.ppf(accuracy) + ease + sum(parts) + rng.normal(0, NOISE, (trainings, images))
        found.append((score > 0).astype(np.float64))
    return found


def measure(rng: np.random.Generator, images: int, trainings: int, luck: float, difference: float) -> dict[str, Any]:
    """Coverage, the share of draws that are called different, and the mean half width in points."""
    found = [groups.difference(*draw(rng, images, trainings, luck, difference)) for _ in range(DRAWS)]
    ends = np.array([each.interval() for each in found])
    return {
        "images": images,
        "trainings": trainings,
        "seeds' SD": luck,
        "true difference": difference,
        "covered": float(np.mean((ends[:, 0] <= difference) & (difference <= ends[:, 1]))),
        "different": float(np.mean([each.p < 0.05 for each in found])),
        "half width": round(50 * float(np.mean(ends[:, 1] - ends[:, 0])), 2),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    rows = [measure(rng, *setting, difference) for setting in SETTINGS for difference in DIFFERENCES]
    RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|", sep="\n")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()

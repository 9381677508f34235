"""Whether images of other classes are told from those of the known ones, through the stages of the pipeline.

    python benchmarks/novelty.py --oxford /photos/oxford102 --five /photos/five_class

The first folder holds {train,val,test}/<class>/<image> with the class names of Oxford 102, the second <class>/<image>.
Near: 60 of Oxford's classes in three draws, with test images of the others as unknown; the five classes, with those
classes of Oxford that are none of them. Far: all classes of Oxford, with drawn flowers, scikit-learn's sample image of
a building, plain colours, noise, text and drawn faces. Models are trained on train alone, thresholds are those of val,
test images are scored once. `--blocks 3` fine-tunes. `--speed` measures the detector by itself instead, on random
features. Writes benchmarks/results/novelty.json, and prints it as Markdown.
"""

import argparse
import contextlib
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scratch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from flowers.common import paths
from flowers.config import params
from flowers.metrics import novelty
from flowers.stages import download, evaluate, split, train

RESULTS = scratch.ROOT / "benchmarks/results/novelty.json"
DRAWS, KNOWN = 3, 60
SAME = {"sunflower", "common_dandelion", "oxeye_daisy", "rose"}  # of Oxford 102, that are among the five classes
LINEAR = {
    "head.units": [],
    "head.dropout": 0.0,
    "head.features": "conv4+conv5",
    "head.normalization": "root",
    "head.initialization": "regression",
    "augmentation.views": 1,
    "augmentation.min_area": 0.35,
    "train.epochs": 0,
    "train.class_weights": False,
    "evaluate.gallery": 0,
}
FINE_TUNED = {
    "train.fine_tune_epochs": 8,
    "train.fine_tune_learning_rate": 0.0015,
    "train.schedule": "cosine",
    "train.warmup_epochs": 1.0,
    "train.weight_decay": 0.05,
    "train.label_smoothing": 0.1,
    "train.averaging": 0.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oxford", type=Path, help="a folder {train,val,test}/<class>/<image>")
    parser.add_argument("--five", type=Path, help="a folder <class>/<image>")
    parser.add_argument("--blocks", type=int, default=0, help="unfrozen residual blocks")
    parser.add_argument("--speed", action="store_true", help="time and memory of the detector instead")
    given = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if given.speed:
        found["speed"] = speed()
    else:
        for name, known, unknown in cases(given.oxford, given.five):
            with tempfile.TemporaryDirectory() as folder:
                found[f"{name}, {given.blocks} blocks"] = measured(Path(folder), known, unknown, given.blocks)
            print(name, found[f"{name}, {given.blocks} blocks"], flush=True)
    found["machine"] = scratch.machine()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))


def cases(oxford: Path | None, five: Path | None) -> list[tuple[str, dict[str, Path], list[Path]]]:
    """Names, known images by their place in a data set, and files of unknown ones."""
    found = []
    if oxford:
        files = sorted(oxford.glob("*/*/*"))
        names = sorted({file.parent.name for file in files})
        for draw in range(DRAWS):
            known = set(np.random.default_rng(draw).choice(names, KNOWN, replace=False))
            unknown = [file for file in files if file.parent.name not in known and file.parts[-3] == "test"]
            found.append((f"Oxford, draw {draw}", placed([f for f in files if f.parent.name in known], 3), unknown))
        found.append(("Oxford, far", placed(files, 3), []))
    if oxford and five:
        others = [file for file in sorted(oxford.glob("*/*/*")) if file.parent.name not in SAME]
        found.append(("five classes", placed(sorted(five.glob("*/*")), 2), others))
    return found


def placed(files: list[Path], parts: int) -> dict[str, Path]:
    return {"/".join(file.parts[-parts:]): file for file in files}


def measured(folder: Path, known: dict[str, Path], unknown: list[Path], blocks: int) -> dict[str, Any]:
    """What the stage `evaluate` finds for a model of these images; without unknown images the far ones are drawn."""
    for place, file in known.items():
        (folder / "known" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "known" / place).symlink_to(file.resolve())
    (folder / "unknown").mkdir()
    for number, file in enumerate(unknown):
        (folder / "unknown" / f"{number:05}{file.suffix}").symlink_to(file.resolve())
    if not unknown:
        draw_far(folder / "unknown")
    changes = {
        "dataset.path": str(folder / "known"),
        "model.weights": str(scratch.ROOT / paths.WEIGHTS),
        "evaluate.unknown_path": str(folder / "unknown"),
        "model.unfreeze_blocks": blocks,
    }
    scratch.write_params(folder, LINEAR | (FINE_TUNED if blocks else {}) | changes)
    with contextlib.chdir(folder):
        settings = params.load()
        download.run(settings.dataset, settings.model.weights)
        split.run(settings.split)
        train.run(settings.model, settings.head, settings.augmentation, settings.train)
        evaluate.run(settings.evaluate)
        found = json.loads(paths.NOVELTY.read_text())
        accuracy = json.loads(paths.METRICS.read_text())["accuracy"]
    kept, left_out = found["kept"], found["test_class_left_out"]
    return {"accuracy": accuracy, **found["unknown"], "kept": kept, "class_left_out": left_out}


def draw_far(folder: Path) -> None:
    """40 images of each kind: drawn flowers, a building, plain colours, noise, text, faces."""
    random = np.random.default_rng(0)
    drawn = sorted(path for path in (scratch.ROOT / "data").rglob("*") if path.suffix in scratch.SUFFIXES)
    for number, file in enumerate(drawn[:: max(1, len(drawn) // 40)][:40]):
        (folder / f"drawn{number}{file.suffix}").symlink_to(file)
    building = load_sample_images().images[0]
    for number in range(40):
        side = int(random.integers(224, 400))
        top, left = (int(random.integers(0, length - side)) for length in building.shape[:2])
        pixels = {
            "building": building[top : top + side, left : left + side],
            "plain": np.full((224, 224, 3), random.integers(0, 256, 3)),
            "noise": noise(random),
            "text": text(random),
            "face": face(random),
        }
        for kind, values in pixels.items():
            Image.fromarray(np.asarray(values, np.uint8)).save(folder / f"{kind}{number}.png")


def noise(random: np.random.Generator) -> np.ndarray:
    scale = int(2 ** random.integers(0, 6))
    cells = random.integers(0, 256, (224 // scale + 1, 224 // scale + 1, 3))
    return np.repeat(np.repeat(cells, scale, axis=0), scale, axis=1)[:224, :224]


def text(random: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (224, 224), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(int(random.integers(10, 40)))
    for top in range(4, 224, int(random.integers(14, 40))):
        letters = random.choice(list("etaoin shrdlu"), 40)
        pen.text((4, top), "".join(letters), font=font, fill="black")
    return image


def face(random: np.random.Generator) -> Image.Image:
    colours = [tuple(random.integers(0, 256, 3).tolist()) for _ in range(3)]
    image = Image.new("RGB", (224, 224), colours[0])
    pen, radius = ImageDraw.Draw(image), int(random.integers(45, 80))
    x, y = random.integers(90, 134, 2).tolist()
    pen.ellipse((x - radius, y - 1.2 * radius, x + radius, y + 1.2 * radius), fill=(230, 190, 160))
    for eye in (x - 0.4 * radius, x + 0.4 * radius):
        pen.ellipse((eye - 9, y - 26, eye + 9, y - 12), fill="white")
        pen.ellipse((eye - 4, y - 23, eye + 4, y - 15), fill=colours[1])
    pen.line((x, y - 6, x - 5, y + 16, x + 4, y + 16), fill=(90, 60, 50), width=3)
    pen.arc((x - radius / 2, y + 10, x + radius / 2, y + 0.8 * radius), 20, 160, fill=(160, 40, 50), width=6)
    pen.pieslice((x - radius, y - 1.4 * radius, x + radius, y + radius / 3), 190, 350, fill=colours[2])
    return image


def speed() -> list[dict[str, Any]]:
    """Seconds to fit, milliseconds an image, bytes and peak memory for Oxford 102's size and for a large set."""
    rows, random = [], np.random.default_rng(0)
    for classes, images in ((102, 1020), (1000, 100_000)):
        features = random.random((images, 3072), np.float32)
        labels = np.arange(images, dtype=np.int32) % classes
        start = time.perf_counter()
        detector = novelty.fit(features, labels, classes, (1024, 2048)).detector
        seconds = time.perf_counter() - start
        row = {"classes": classes, "images": images, "seconds to fit": round(seconds, 1)}
        for batch in (1, 32):
            times = []
            for _ in range(50):
                start = time.perf_counter()
                detector.ratios(features[:batch])
                times.append((time.perf_counter() - start) / batch)
            row[f"ms an image, {batch} at once"] = round(1000 * float(np.median(times)), 3)
        row["MB"] = round(sum(values.nbytes for values in vars(detector).values()) / 1e6, 1)
        row["peak GiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        rows.append(row)
    return rows


def markdown(found: dict[str, Any]) -> str:
    lines = [f"Measured on {found['machine']}.", ""]
    names = ("accuracy", "images", "auroc", "auroc_of_probability", "fpr95", "refused", "kept")
    lines += ["| | " + " | ".join(names) + " | AUROC of a class left out |", "|---" * (len(names) + 2) + "|"]
    for name, row in found.items():
        if name not in ("machine", "speed"):
            values = [f"{row[each]:,}" if each == "images" else f"{row[each]:.3f}" for each in names]
            lines.append(f"| {name} | {' | '.join(values)} | {row['class_left_out']['auroc']:.3f} |")
    if "speed" in found:
        lines += ["", "| " + " | ".join(found["speed"][0]) + " |", "|---" * len(found["speed"][0]) + "|"]
        lines += ["| " + " | ".join(f"{value:,}" for value in row.values()) + " |" for row in found["speed"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

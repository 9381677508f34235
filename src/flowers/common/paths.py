"""Paths of the stages' outputs, relative to the root of the checkout, and the user's cache folder."""

import os
from pathlib import Path

from flowers.common.errors import UserError

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")

BUILD = Path("build")

# download
IMAGES = BUILD / "images"  # <class>/<file>
IMAGE_LIST = BUILD / "images.csv"  # path, label, sha256, pixels, phash, mirrored_phash, width, height, subset
SKIPPED_LIST = BUILD / "skipped.csv"  # path, reason
WEIGHTS = BUILD / "weights" / "resnet50.npz"

# split
SPLIT = BUILD / "split.csv"  # path, label, subset
SPLIT_REPORT = BUILD / "split.json"  # class counts, duplicates and near-duplicates

# train
MODEL = BUILD / "model"
HISTORY = BUILD / "history.csv"  # one row per epoch
CHECKPOINT = BUILD / "checkpoint"  # exists while a training runs or is interrupted

# evaluate
EVALUATION = BUILD / "evaluation"
METRICS = EVALUATION / "metrics.json"  # in git
LABELS = EVALUATION / "labels.csv"  # in git: path, label, predicted
CURVES = EVALUATION / "curves.csv"  # in git: epoch, accuracy, val_accuracy, loss, val_loss
INTERVALS = EVALUATION / "intervals.json"  # score -> [low, high]
PREDICTIONS = EVALUATION / "predictions.csv"  # path, sha256, label, predicted, probability, p(<class>)...
VALIDATION = EVALUATION / "validation.csv"  # the same of validation images, or of some training images with train+val
CALIBRATION = EVALUATION / "calibration.json"  # temperature and calibration errors
PER_CLASS = EVALUATION / "per_class.csv"
CONFUSION = EVALUATION / "confusion.csv"
CONFUSION_PICTURE = EVALUATION / "confusion.png"
CURVES_PICTURE = EVALUATION / "curves.png"
PER_CLASS_PICTURE = EVALUATION / "per_class.png"
RELIABILITY_PICTURE = EVALUATION / "reliability.png"
NOVELTY = EVALUATION / "novelty.json"  # how well unknown images are told from known ones
NOVELTY_PICTURE = EVALUATION / "novelty.png"
REPORT = EVALUATION / "report.html"  # all of the above on one page, with images

COMPARISON = BUILD / "compare.html"  # of `flowers compare`

# check
CHECK_PAGE = BUILD / "check.html"
DOUBTFUL = BUILD / "doubtful.csv"  # path, label, subset, p_label, suggested, p_suggested

# track, tune
TRACKING = Path("tracking")  # the marker, the studies and locks: git-ignored
TRACKING_MARKER = TRACKING / "published.json"
STUDIES = TRACKING / "studies.journal"  # Optuna's default storage


def require_empty(folder: Path) -> None:
    """Raise UserError unless nothing, or an empty folder, is at this path."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: name one that does not exist yet, or empty it first")


def cache_folder() -> Path:
    """The user's cache of archives, weights and activations: `FLOWERS_CACHE`, else the platform's cache folder."""
    if folder := os.environ.get("FLOWERS_CACHE"):
        return Path(folder)
    import platformdirs

    return Path(platformdirs.user_cache_dir("flowers", appauthor=False))

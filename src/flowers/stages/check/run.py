"""The command `flowers check`."""

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.architecture import INPUT_SIZE
from flowers.data import near_duplicates
from flowers.model import resnet
from flowers.model.backbone import best_precision
from flowers.model.feature_layer import FeatureLayer
from flowers.reporting import document
from flowers.stages.check import findings, report
from flowers.training import activation_cache, fitting, subsets


def check(precision: str, with_test: bool) -> None:
    """Check the outputs of download and split: a summary, build/check.html and doubtful.csv. Raises UserError."""
    everything = subsets.read("train", "val", "test")
    precision = best_precision() if precision == "auto" else precision
    # The pooled features of the backbone, from the same cache as a training's.
    layer = FeatureLayer.below(0, INPUT_SIZE)
    stored = activation_cache.stored(everything.plain(), [layer], fitting.read_weights(), precision)
    found = findings.find(everything, _pictures(everything), stored[layer][:][:, -resnet.FEATURES :], with_test)
    doubtful = found.doubtful.drop(columns="sha256")
    doubtful.to_csv(paths.DOUBTFUL, index=False, float_format="%.4f", lineterminator="\n")
    paths.CHECK_PAGE.write_text(document.html(report.page(found)), encoding="utf-8", newline="\n")
    document.show(report.summary(found))
    console.say(f"Page with the images: {paths.CHECK_PAGE}. All doubtful labels: {paths.DOUBTFUL}.")


def _pictures(chosen: subsets.Subset) -> list[str]:
    """A name for each image, equal for near-duplicates."""
    columns = ("pixels", "phash", "mirrored_phash")
    if lost := [name for name in columns if name not in chosen.table]:
        raise UserError(f"{paths.IMAGE_LIST}: column '{lost[0]}' is missing; run `dvc repro -f download`")
    return near_duplicates.groups(*(chosen.table[name].tolist() for name in columns))

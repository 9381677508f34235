"""The name of a pipeline run in MLflow: what was tried, in one line."""

from flowers.config.params import Params


def run_name(params: Params) -> str:
    """The parameters that tell runs apart, the most telling first: MLflow's table shows about twenty characters."""
    units = "-".join(str(width) for width in params.head.units)
    parts = [f"{units} dropout {params.head.dropout:g}" if units else "linear"]
    if params.head.initialization == "regression":
        parts.append("from a regression")
    parts.append(f"unfreeze {params.model.unfreeze_blocks}")
    if params.train.epochs:
        parts.append(f"lr {params.train.learning_rate:g}")
    if params.model.unfreeze_blocks:
        parts.append(f"then {params.train.fine_tune_learning_rate:g}")
    if params.train.label_smoothing:
        parts.append(f"smoothing {params.train.label_smoothing:g}")
    if params.train.on != "train":
        parts.append(f"on {params.train.on}")
    if params.model.precision != "float32":
        parts.append(params.model.precision)
    if params.train.seed:
        parts.append(f"seed {params.train.seed}")
    return " ".join(parts)

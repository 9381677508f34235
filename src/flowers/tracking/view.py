"""The view of the runs that MLflow's UI opens with: whole names, scores, and the parameters that are tuned first.

MLflow 3 keeps a shared view in a tag of the experiment, and opens it by its key in the address. Without that it shows
three columns, cuts names after 20 characters, and opens as a tool for language models until one clicks Model training.
"""

import json

_KEY = "flowers"
_NAME = "attributes.`Run Name`"
_METRICS = ("test_accuracy", "test_log_loss", "val_mean_per_class_accuracy")
_PARAMS = ("head.dropout", "head.units", "model.unfreeze_blocks", "train.learning_rate")
_STATE = {
    "selectedColumns": [f"metrics.`{name}`" for name in _METRICS] + [f"params.`{name}`" for name in _PARAMS],
    "columnOrder": [_NAME],
    "columnWidths": {_NAME: 300},  # pixels
}

TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # other versions ask for the kind, or guess it
    f"mlflow.sharedViewState.{_KEY}": json.dumps(_STATE),
}


def page(experiment_id: str) -> str:
    """The address of the view on the server, of an experiment with `TAGS`."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={_KEY}&workflowType=machine_learning"

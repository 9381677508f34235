"""Run as a script by prediction_check: load a logged model from a store and print its predictions for some images.

It reads JSON from standard input: the store's address, the model's address in it, and images in base64. It prints
{"label": [...], "probability": [...]} as the last line of standard output.
"""

import json
import os
import sys


def main() -> None:
    """Read the request, predict, print."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import mlflow
    import pandas as pd

    request = json.load(sys.stdin)
    mlflow.set_tracking_uri(request["store"])
    model = mlflow.pyfunc.load_model(request["model"])
    predicted = model.predict(pd.DataFrame({"image": request["images"]}))
    print(json.dumps({name: predicted[name].tolist() for name in ("label", "probability")}))


if __name__ == "__main__":
    main()

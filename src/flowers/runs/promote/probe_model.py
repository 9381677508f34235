"""Run as a script, by flowers.runs.promote.probe: load a model from a store and print what it says of some photos.

It reads JSON from standard input: the store's address, the model's address in it, and photos in base64.
"""

import json
import os
import sys


def main() -> None:
    """Answer one question: {"label": [...], "probability": [...]} on the last line of standard output."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import mlflow
    import pandas as pd

    asked = json.load(sys.stdin)
    mlflow.set_tracking_uri(asked["store"])
    model = mlflow.pyfunc.load_model(asked["model"])
    answer = model.predict(pd.DataFrame({"image": asked["photos"]}))
    print(json.dumps({"label": answer["label"].tolist(), "probability": answer["probability"].tolist()}))


if __name__ == "__main__":
    main()

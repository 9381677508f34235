"""`python -m draw_sample FOLDER`: draw the sample that data.dvc versions."""

import argparse
from pathlib import Path

from draw_sample import SUBSETS, draw

if __name__ == "__main__":  # also imported by the processes that draw
    parser = argparse.ArgumentParser(prog="draw_sample", description="Draw images of five kinds of flowers.")
    parser.add_argument("folder", type=Path, help="a new folder for the images")
    for subset, count in SUBSETS.items():
        parser.add_argument(f"--{subset}", type=int, default=count, help=f"{subset} images of each class ({count})")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other images")
    options = parser.parse_args()
    draw(options.folder, {subset: getattr(options, subset) for subset in SUBSETS}, options.seed)

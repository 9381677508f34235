"""`python -m draw_sample FOLDER`: draw the sample that data.dvc versions."""

import argparse
from pathlib import Path

from draw_sample import draw

parser = argparse.ArgumentParser(prog="draw_sample", description="Draw images of five kinds of flowers.")
parser.add_argument("folder", type=Path, help="a new folder for the images")
parser.add_argument("--per-class", type=int, default=60, help="images of each of the five classes")
parser.add_argument("--seed", type=int, default=0, help="another seed draws other images")
options = parser.parse_args()
draw(options.folder, options.per_class, options.seed)

"""Train a model: the same program as ``visionmtl train``."""

import sys

from visionmtl.cli import main

main(["train", *sys.argv[1:]])

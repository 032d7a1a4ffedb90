"""Train a model: the same program as ``visionmtl train``."""

import sys

from visionmtl.cli.main import main

main(["train", *sys.argv[1:]])

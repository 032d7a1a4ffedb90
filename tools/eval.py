"""Evaluate a model: the same program as ``visionmtl eval``."""

import sys

from visionmtl.cli.main import main

main(["eval", *sys.argv[1:]])

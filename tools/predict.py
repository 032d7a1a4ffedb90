"""Predict on images and videos: the same program as ``visionmtl predict``."""

import sys

from visionmtl.cli.main import main

main(["predict", *sys.argv[1:]])

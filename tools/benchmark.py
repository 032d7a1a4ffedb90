"""Measure a config: the same program as ``visionmtl benchmark``."""

import sys

from visionmtl.cli import main

main(["benchmark", *sys.argv[1:]])

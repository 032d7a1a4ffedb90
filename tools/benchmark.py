"""Measure a config: the same program as ``visionmtl benchmark``."""

import sys

from visionmtl.cli.main import main

main(["benchmark", *sys.argv[1:]])

"""Check a data set: the same program as ``visionmtl check-data``."""

import sys

from visionmtl.cli.main import main

main(["check-data", *sys.argv[1:]])

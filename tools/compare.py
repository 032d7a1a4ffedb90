"""Compare runs: the same program as ``visionmtl compare``."""

import sys

from visionmtl.cli.main import main

main(["compare", *sys.argv[1:]])

"""Draw a run: the same program as ``visionmtl plot``."""

import sys

from visionmtl.cli.main import main

main(["plot", *sys.argv[1:]])

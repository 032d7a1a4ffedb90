"""What is in a network: the same program as ``visionmtl inspect``."""

import sys

from visionmtl.cli.main import main

main(["inspect", *sys.argv[1:]])

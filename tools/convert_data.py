"""Write any known data set in the folder format: the same program as ``visionmtl convert-data``."""

import sys

from visionmtl.cli.main import main

main(["convert-data", *sys.argv[1:]])

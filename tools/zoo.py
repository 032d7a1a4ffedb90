"""Look at the model zoo: the same program as ``visionmtl zoo``."""

import sys

from visionmtl.cli.main import main

main(["zoo", *sys.argv[1:]])

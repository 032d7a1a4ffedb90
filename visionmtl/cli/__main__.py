"""``python -m visionmtl.cli``: the command line."""

from visionmtl.cli.main import main

if __name__ == "__main__":
    main()

"""The command line: python -m wmlib."""

import sys

from wmlib.cli import main

if __name__ == "__main__":
    sys.exit(main())

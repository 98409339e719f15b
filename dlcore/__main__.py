"""`python -m dlcore`: the same as the command `dlcore`."""

import sys

from dlcore.cli import main

if __name__ == "__main__":
    sys.exit(main())

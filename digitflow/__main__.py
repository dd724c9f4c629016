"""`python -m digitflow` is `digitflow`."""

import sys

from digitflow.flows.cli.app import main

if __name__ == "__main__":
    sys.exit(main())

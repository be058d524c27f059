"""`python -m edgepose` is `edgepose`."""

import sys

from edgepose.cli import main

if __name__ == "__main__":
    sys.exit(main())

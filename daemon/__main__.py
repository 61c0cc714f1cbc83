"""`python -m daemon` is `lakegate`."""

import sys

from daemon.cli import main

sys.exit(main())

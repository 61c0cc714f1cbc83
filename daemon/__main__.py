"""`python -m daemon` is `lakegate`."""

import sys

from daemon.cli.main import main

sys.exit(main())

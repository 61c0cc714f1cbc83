"""`python -m pipeline --fd N` runs the worker."""

import sys

from pipeline.worker import main

raise SystemExit(main(sys.argv[1:]))

"""`python -m pipeline --fd N` runs the worker."""

import sys

from pipeline.worker.worker import main

raise SystemExit(main(sys.argv[1:]))

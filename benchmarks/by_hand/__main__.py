"""`python -m by_hand FOLDER` takes deliveries of retail in a child process of the benchmark."""

import sys
from pathlib import Path

from child import serve

from by_hand.pipeline import ByHand

serve(ByHand(Path(sys.argv[1])).take)

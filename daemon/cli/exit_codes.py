"""The exit codes of the command `lakegate`."""

FINE = 0
A_BATCH_FAILED = 1  # also: `check` found a problem, or an unexpected error
USAGE = 2
NOT_FOUND = 4
BUSY = 75  # EX_TEMPFAIL of sysexits.h: another daemon runs, or another process writes to the lake
CONFIG = 78  # EX_CONFIG of sysexits.h: systemd does not start the service again
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

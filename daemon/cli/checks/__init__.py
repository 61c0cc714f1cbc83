"""The checks of `lakegate check`, one file for each group. A check yields diagnostics and changes nothing."""

"""The command `lakegate`: one file for each group of verbs."""

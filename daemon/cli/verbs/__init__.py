"""The verbs of the command, one file for each group of verbs. The modules of a verb are imported when it runs."""

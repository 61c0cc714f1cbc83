"""The pipeline: takes one batch at a time from claimed files to published tables. It never imports the daemon."""

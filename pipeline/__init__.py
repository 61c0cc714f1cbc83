"""The pipeline decides WHAT: it takes one batch from claimed files to published tables. It never imports the daemon."""

"""Archives the files of decided batches and runs the on_published command."""

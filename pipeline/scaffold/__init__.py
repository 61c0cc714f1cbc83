"""Drafts the declarations of a new source from sample files."""

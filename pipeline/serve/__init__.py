"""Serves the published tables to readers that know no versions: folders of hard links, and a DuckDB file of views."""

"""Sends OpenLineage events of each batch to other tools, to an HTTP endpoint or to a file."""

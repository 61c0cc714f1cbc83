"""Computes metrics for Prometheus from the ledger, writes them to a file, and serves them by HTTP."""

from daemon.metrics.collect import CONTENT_TYPE, Metrics, render

__all__ = ["CONTENT_TYPE", "Metrics", "render"]

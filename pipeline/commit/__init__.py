"""Publishes a batch exactly once: attempt, journal, manifest, external commits, maintenance."""

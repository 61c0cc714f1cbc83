"""Turns triggers into batches and takes their files into the claim folder."""

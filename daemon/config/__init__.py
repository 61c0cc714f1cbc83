"""Reads config.toml and the environment into one Config, and names every problem with file and line."""

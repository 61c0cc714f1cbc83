"""Reads config.toml and the environment into one Config, and reports every problem with file and line."""

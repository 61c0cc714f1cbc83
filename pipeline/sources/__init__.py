"""Finds and checks the declared sources; holds the three sources that ship."""

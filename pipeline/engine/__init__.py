"""Opens the engine's session and finds Java and the jars that Spark needs."""

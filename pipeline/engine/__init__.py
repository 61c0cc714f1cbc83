"""Opens the engine's session and finds Java and Delta's jars."""

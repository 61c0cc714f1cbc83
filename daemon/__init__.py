"""The daemon decides WHEN: it watches, remembers and dispatches. It imports no part of the pipeline but the contract."""

"""The daemon decides WHEN: it watches, remembers and dispatches. Of the pipeline it imports the contract."""

"""The source `clickstream`: events of shop visitors, joined to the state of each item at that millisecond."""

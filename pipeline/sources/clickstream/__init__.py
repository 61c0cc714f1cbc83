"""The source `clickstream`: what visitors of a shop did, seen with what each item was at that very millisecond."""

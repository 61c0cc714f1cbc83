"""Takes one batch through its stages: the plan, the task graph and the record of the batch."""

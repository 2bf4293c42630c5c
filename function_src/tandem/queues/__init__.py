"""What carries changes to workers: the Queue seam and the queues behind it."""

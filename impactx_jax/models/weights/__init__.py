"""Published weights, read and put into networks."""

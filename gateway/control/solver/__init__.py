"""The process that solves and certifies, so that the data path never waits for a solve."""

"""One backend: its GPU, model and engine, how long its iterations take, and what it sustains.

Knows sizes and SLOs as arguments. Knows nothing of buckets, demand, plans or prices of a fleet.
"""

"""The frozen values that planning is about: buckets, pools, demand and plans.

Index letters: `b` bucket, `p` pool, `c` SLO class, `f` fine cell of actual size. Must not know the
arithmetic on these values, which is in `planner.program`.
"""

"""The frozen values that planning is about: space, pools, demand and plans.

Index letters: `b` bucket, `p` pool, `c` SLO class, `f` fine cell of actual size. Everything here is
data; the arithmetic on it lives in `planner.program`.
"""

"""Simulated comparisons: planners, dispatch policies, length predictors, worker counts, solve times.

Everything but the solver's own time is virtual. Must not know sockets, processes or engines.
"""

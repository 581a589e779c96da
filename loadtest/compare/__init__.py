"""Simulated comparisons: planners, dispatch policies, length predictors, workers, solve times.

All but the solver's own time is virtual. Must not know sockets, processes or `cuvee`.
"""

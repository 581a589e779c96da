"""Requests as data: traces, arrival processes, and the demand that samples or sums add up to.

Must not know pools, prices, or the gateway that observes the requests.
"""

"""The optimisation: from demand, pools and limits to the cheapest plan whose tail is kept free.

Must not know how a plan is rehearsed, explained or executed.
"""

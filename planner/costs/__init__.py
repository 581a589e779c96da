"""Money: GPU prices, the parts of a bill, other fleets for the same demand, and commitments.

Must not know how shares and counts are found, nor how a plan is executed.
"""

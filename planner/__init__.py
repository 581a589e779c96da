"""What should go where: from demand, SLOs, profiles and prices to a plan.

Knows nothing of HTTP, of clocks, or of the gateway that executes the plan.
"""

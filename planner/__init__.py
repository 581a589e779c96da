"""What should go where: from demand, SLOs, profiles and prices to a plan.

Must not know HTTP, clocks, or the gateway that executes the plan.
"""

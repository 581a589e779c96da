"""How many backends to have, before they are needed: forecast of demand, and the policy of counts.

Pure: times are arguments. Must not know how a fleet is planned, nor how replicas are started.
"""

"""The proof of a plan: a fleet simulated in virtual time, certificates, and refinement by them.

Must not know how a plan was made, nor which router it is played with: both are arguments.
"""

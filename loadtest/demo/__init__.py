"""The demo: a gateway in front of emulated backends on this machine, and the summary of one run.

Must not know the command's options or how progress is shown.
"""

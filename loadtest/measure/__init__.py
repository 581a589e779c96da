"""Measures what one running backend can do: closed loops at few loads, chosen from those before.

`closed_loop` says what is sent and counted, `choice` what is measured next; neither has a clock.
"""

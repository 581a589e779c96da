"""Emulated vLLM backends: the API as recorded from a real engine, at the pace of the engine model.

Must not know the gateway, plans or traffic.
"""

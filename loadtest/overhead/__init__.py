"""What a proxy costs: CPU, latency and memory of the gateway beside other proxies and beside none.

Knows the gateway by its command line, its configuration file and `gateway.runtime`; must not import
anything else of it.
"""

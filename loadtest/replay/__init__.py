"""Open-loop replay of a trace against a server, and the report of what the client measured.

Must not know the gateway: any server with OpenAI's API can be the target.
"""

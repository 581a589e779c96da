"""The data path: reads requests, has a backend answer them, and passes the answers on."""

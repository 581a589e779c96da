"""The configuration file. Owns its keys, defaults and errors; knows no live object."""

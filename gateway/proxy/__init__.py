"""The bytes: the OpenAI surface, the exchange with a backend, and the streams."""

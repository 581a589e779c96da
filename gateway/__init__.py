"""How a request gets to the backend the plan chose for it."""

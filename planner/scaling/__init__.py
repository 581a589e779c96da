"""How many backends there should be at what time: forecasts of the demand, and counts over time."""

"""The loops beside the data path: health, demand and re-planning."""

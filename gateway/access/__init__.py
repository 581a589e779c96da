"""Who sends a request. Knows no backend and no plan."""

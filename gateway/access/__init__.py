"""Who may ask, and for how much: callers, later keys and limits. Knows no backend and no plan."""

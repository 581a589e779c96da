"""The admin port. Owns paths and shapes of answers; knows no router and no plan."""

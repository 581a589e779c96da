"""What the page on the admin port shows, as plain values for JSON. Pure: reads what it is given."""

"""What finds backends while the gateway serves: sources, and what joins them."""

"""What engines that run today, or a log of theirs, say of the cheapest fleet. Touches nothing."""

"""What the commands do that are more than a line of `cli`."""

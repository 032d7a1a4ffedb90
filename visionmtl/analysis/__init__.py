"""What people learn from data, runs and networks."""

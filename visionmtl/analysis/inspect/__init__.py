"""What is in a network: its stages, what the sharing scheme attaches to them, what it costs, what
it has learned.
"""

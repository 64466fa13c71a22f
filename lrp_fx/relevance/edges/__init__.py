"""Relevance nodes between operations: filters, hooks, channel masks and auxiliary nodes."""

"""What stands on an edge: filters, hooks, masks, and what only carries values."""

"""The rules for linear operations: one formula, computed in three steps."""

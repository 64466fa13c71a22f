"""The rules of linear operations: one formula, in three steps."""

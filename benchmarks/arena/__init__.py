"""The arena: which maps are good? Every method on every suite, into docs/evaluation.md."""

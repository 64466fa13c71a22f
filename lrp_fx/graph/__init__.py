"""The ground: what every stage knows of graphs and of ATen operations."""

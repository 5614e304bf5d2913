"""Training the importance scorer. Nothing else in the package imports this."""

"""What a call returns, made out of what nodes say; it asks nobody, and guesses nothing."""

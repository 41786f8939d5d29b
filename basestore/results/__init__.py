"""What a call returns, made out of what nodes say."""

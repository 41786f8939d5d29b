"""Results: what a call returns, made out of what nodes say.

Pure, and at the client's: owns what answers mean, together. Asks nobody, and guesses nothing that no node
said.
"""

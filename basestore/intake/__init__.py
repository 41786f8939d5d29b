"""Intake: which requests of clients are begun, in what order, and which are refused unopened."""

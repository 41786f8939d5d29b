"""The protocol with one of its rules left out, each put in by patching the model from outside."""

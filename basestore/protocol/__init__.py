"""Protocol: what is said on the wire, one file a conversation: messages, their form, and frames.

Owns the form of every message, and refuses what does not have it. Pure: no socket, and no opinion of what a
message asks for.
"""

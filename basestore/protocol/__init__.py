"""What is said on the wire, one file a conversation: messages, their form, and frames; pure."""

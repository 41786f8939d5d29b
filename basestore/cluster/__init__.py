"""The other members: where rows live, who is alive, what is on its way, what is awaited.

Owns what one node knows of the others, and the messages between them until they leave or are answered. Stores
nothing and decides no request; sockets are `server`'s.
"""

"""Hinted handoff (DeCandia et al., "Dynamo", 2007, 4.6): hints, their delivery, what is owed, what is late.

Owns every write that this node keeps for another, until the other has it durably or a debt stands for it.
Judges no requests, and compares no replicas.
"""

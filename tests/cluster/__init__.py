"""Clusters of real processes, under faults of their network, their disks and their machines."""

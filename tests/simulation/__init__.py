"""Simulation: clusters of real nodes under a simulated network, disks and clocks, each out of one seed."""

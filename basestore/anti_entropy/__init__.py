"""Anti-entropy: replicas compare what they hold, prove it, and recover what they lost (Demers et al., 1987).

Owns every exchange of two replicas, what was proven in them, and what a store does with its own partitions in
between: purging, scrubbing, healing. It takes no requests, and stores records through `replica` alone.
"""

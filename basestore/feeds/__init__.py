"""Feeds: who follows the changes of a bucket, at the node that is asked and at the replicas that tell."""

"""Where the shards of a run are computed: in this process, in several, on a cluster.

An engine maps items of a run, each some shards, to outcomes. It is given no array and returns none:
whoever computes a shard writes it.
"""

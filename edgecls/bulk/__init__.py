"""Millions of images: cut into shards, worked on by a pool, one output file a shard."""

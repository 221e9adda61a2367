"""The data engine: raw image and video sources become validated parquet shards."""

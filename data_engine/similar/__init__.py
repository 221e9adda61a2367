"""Pictures and texts that are alike: hashes of images, MinHash of texts, and the index of benchmarks."""

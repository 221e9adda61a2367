"""What looks or reads alike: hashes of images, MinHash of texts, and the index of benchmarks."""

"""Configuration of containers, images, engine and host against the CIS Docker Benchmark: documents in, findings out."""

"""A small language model of our own: symbols, a causal transformer, its training, and models of others."""

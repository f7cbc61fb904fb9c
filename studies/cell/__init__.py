"""One cell, in a process of its own: train, measure, sample; results come back as files."""

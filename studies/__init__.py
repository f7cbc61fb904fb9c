"""What a person runs: studies of training objectives, and the harness they share."""

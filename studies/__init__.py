"""What a person runs: studies of training objectives, and the rooms they share."""

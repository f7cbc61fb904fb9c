"""What will run: settings, grid, machine and costs, all checked before anything starts."""

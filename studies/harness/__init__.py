"""The parts every study shares: settings, cells, draws, runner, store, statistics, figures, report."""

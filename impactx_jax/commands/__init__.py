"""The console programs: flags, and one call each."""

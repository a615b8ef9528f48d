"""The report on a run: one HTML file, which needs nothing else and no network."""

"""The parts of bench/run, and what makes a page of their rows."""

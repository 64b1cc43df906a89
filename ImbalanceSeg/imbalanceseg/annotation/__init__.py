"""What a person has painted, what to paint next, and a simulated person for benchmarks."""

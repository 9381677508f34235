"""What is done with finished runs: scores, compare, promote, reproduce."""

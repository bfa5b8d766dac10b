"""`make gpu`: what was only read of GPUs, proved or disproved on the card at hand. Used by nothing else."""

"""What differs between runs, between settings of one run, and over many runs. Passes no verdict, renders nothing."""

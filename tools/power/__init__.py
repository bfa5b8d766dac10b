"""`make power`: what the gate finds on this machine of slowdowns that are known. Measures by the suite."""

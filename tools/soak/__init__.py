"""A long run of a tiny study under every kind of fault, to see that no measurement is lost and none is made twice."""

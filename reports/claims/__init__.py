"""Whether statements hold in a run: the original study's, and one's own. Renders nothing."""

"""What maintainers run: programs that measure, prove or make something of this project; none is needed to run it."""

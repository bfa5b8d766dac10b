"""Which setting to deploy, and what to measure next. Renders nothing."""

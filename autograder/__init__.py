"""The instructor's tool: builds the student release, runs the labs, tests the course."""

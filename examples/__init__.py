"""Programs to run and to learn from. bench/ compares them with the same done in other ways."""

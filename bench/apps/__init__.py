"""Ordinary web applications. They know nothing of the loop they run on, nor that they are measured."""

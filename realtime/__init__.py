"""One frame, from microphone to browser. Imports no torch and no network definition."""

"""What is timed, and the processes in which it is."""

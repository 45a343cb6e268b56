"""The rehearsal of a study: its whole workflow in minutes on a CPU, with small stand-ins for its data and models."""

"""What the report says of the study as a whole: costs, machines, other studies beside it, threats to validity."""

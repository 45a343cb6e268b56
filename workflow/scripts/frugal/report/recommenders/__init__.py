"""What the report says about the experiments that rank items, `ssept` and `bert4rec`."""

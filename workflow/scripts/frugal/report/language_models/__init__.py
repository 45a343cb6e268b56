"""What the report says about the experiments on plain text, `wikitext` and `climate`."""

"""Data sets: fetched, checked, unpacked and brought into one form."""

# The record that fetching leaves beside the members, and preparation reads.
RECORD = "source.json"
#: Endings of text files with one JSON object a line.
JSON_LINES = (".jsonl", ".ndjson")

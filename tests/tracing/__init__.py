"""Where every number of a report's tables comes from, looked up and computed anew, apart from the report's own code."""

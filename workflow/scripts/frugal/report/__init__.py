"""The report: result files in; tables, figures and one text in three formats out."""

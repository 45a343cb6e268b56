"""What DVC versions: the stages of dvc.yaml, the record of the jobs behind their files, and what DVC shows of them."""

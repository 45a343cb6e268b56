"""What the report says about the `movie_preference` experiment."""

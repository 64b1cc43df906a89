"""What a person reads about a result: figures, the report, the overview picture, this computer."""

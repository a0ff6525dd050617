"""What lies on a hub or in a folder of one: where its files are, how its tables, pictures and models are read."""

"""What is done again and again to keep the service in order."""

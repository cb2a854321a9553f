"""What is minimised: data, model and loss."""

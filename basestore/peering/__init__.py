"""What members say of themselves to each other, on every link: who they are, and that they live."""

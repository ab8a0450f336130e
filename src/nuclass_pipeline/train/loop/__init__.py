"""What accompanies the training loop: its state on the disk, its speed and its memory."""

"""The H&E: the slide file, the pyramid at the target pixel size, and the windows cut from it."""

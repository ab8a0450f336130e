"""Files of an H&E: opened, checked, and read with what no tissue can be in as glass."""

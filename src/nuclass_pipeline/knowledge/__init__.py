"""What is known before any slide is read: cell types, organs, marker genes."""

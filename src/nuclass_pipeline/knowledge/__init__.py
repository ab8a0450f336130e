"""Prior knowledge, independent of any slide: cell types, organs, marker genes."""

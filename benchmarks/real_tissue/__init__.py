"""Two real, point-labelled H&E data sets through the whole workflow, in folds by case."""

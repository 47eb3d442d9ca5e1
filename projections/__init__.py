"""Pure folds over recorded facts, one module and one .sql file each."""

"""Raw tables: what their columns are, how these become numbers, and the estimators on top."""

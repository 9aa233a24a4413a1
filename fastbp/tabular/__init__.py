"""Raw tables: columns of numbers, categories and dates become what a network learns from."""

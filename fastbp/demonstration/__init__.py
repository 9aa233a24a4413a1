"""What ``python -m fastbp`` shows to a person.

`side_by_side` trains next to scikit-learn, `table_file` reads a raw table of the user's, and
`table_report` says what can be learned from it.  Nothing that another wing of fastbp needs.
"""

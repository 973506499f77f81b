"""Options of an attrs class: types, conversion, every mistake in a table of values."""

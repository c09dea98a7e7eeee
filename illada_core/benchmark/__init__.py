"""From a file of items to a table: how benchmarks are asked, answered, graded and compared."""

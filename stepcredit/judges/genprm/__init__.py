"""The GenPRM judge: one turn a step, in which the model analyses, tests with code and gives its verdict."""

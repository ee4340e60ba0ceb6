"""The package behind *World Models, cell by cell*: V, M, C, the dream and the stages that train them."""

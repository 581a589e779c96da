"""`python -m cuvee`."""

from cuvee import main

main()

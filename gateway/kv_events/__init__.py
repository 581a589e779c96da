"""What engines publish of the blocks in their prefix caches, and what is not believed for it."""

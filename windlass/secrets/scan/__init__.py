"""Finds secrets where none should be: in the files of a project and in all that Git keeps of it."""
